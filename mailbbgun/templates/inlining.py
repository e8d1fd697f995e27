"""A child process of :mod:`mailbbgun.templates.around`: inlines the CSS of HTML.

It ends with an exit code other than 0, or by a signal, if all the HTML takes too much time, memory or stack.
"""

import json
import resource
import sys

import css_inline

#: Seconds of CPU, and bytes of memory.
CPU, MEMORY = 3, 1024**3


def main() -> None:
    """Read a JSON list of HTML on standard input, and write it with the rules inlined."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_style_tags=True, remove_inlined_selectors=True)
    sys.stdout.write(json.dumps([inliner.inline(html) for html in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
