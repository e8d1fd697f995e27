"""The templates of a batch share a budget of CPU."""

import re

MANY = "{% for i in items %}{% for j in items %}{{ j }}{% endfor %}{% endfor %}"


def test_a_batch_whose_templates_take_too_much_in_all_is_refused_whole(door):
    before = len(door.get("/batches", limit=100)["batches"])
    variables = {"items": ["x" * 40] * 60}
    many = [{"to": f"p{n}@example.com", "variables": variables} for n in range(1000)]

    def post(recipients, **more):
        # Each text is nearly as much work as one may be, so no machine does a thousand in time.
        body = {"subject": "s", "text": MANY, "html": MANY, "recipients": recipients, **more}
        return door.call("POST", "/messages/batch", json=body)

    few = post(many[:3])
    assert few.status_code == 202, few.text
    for mode in ("all_or_nothing", "partial"):
        given = post(many, mode=mode)
        assert (given.status_code, given.json()["error"]["code"]) == (413, "too_large")
        why = r"the batch's texts takes more than 2 s of CPU .*: recipients\.[0-9]+ of 1000 was next"
        assert re.search(why, given.json()["error"]["message"])
    assert len(door.get("/batches", limit=100)["batches"]) == before + 1
