"""Return paths: what comes back of a delivery, such as a bounce or a complaint, is matched with it.

In: deliveries that are sent, and mail to RETURN_PATH_DOMAIN. Out: an envelope sender for each delivery
(VERP); for each report an event, and perhaps a delivery that becomes ERROR, and a suppression. Promises: a
report changes something once, in the transaction that ends its own delivery; one that is forged or too
old changes nothing; nothing here is ever answered, so no mail goes round in circles.

Files: ``tokens`` makes and reads the signed tokens (pure); ``paths`` has their keys, and the addresses;
``judge`` decides what a report changes (pure); ``effect`` changes it; ``repo`` has the statements;
``receive`` answers for each recipient at RETURN_PATH_DOMAIN.
"""
