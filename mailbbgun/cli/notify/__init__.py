"""Commands about who is told what happens: webhooks, alerts, Slack."""
