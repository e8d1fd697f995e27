"""Templates: subject, text and HTML with places for variables, kept in versions.

In come the texts of a template and, for each mail, its variables. Out come subject, text and HTML.

A tenant writes both the template and the variables, so neither is trusted: no template reads a file,
the environment or an object of ours, and none takes more than :mod:`mailbbgun.templates.engine` grants.
"""
