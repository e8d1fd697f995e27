"""The commands about mail: messages, batches, templates, suppressions and sending domains."""
