"""The language of templates: what a template may say.

In comes the text of a template; out come its tags, or the first thing that it may not say, with its line.
What passes costs no more than the engine's fuel bounds (:mod:`mailbbgun.templates.engine`).
"""
