"""Posts of mail to URLs: `posting` makes the requests, `forms` their bodies, `own_text` what a person wrote herself."""
