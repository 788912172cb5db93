"""The benchmark: `normlab bench`. How fast the norms are, beside every peer, against the memory's own speed.

`cases` says what is measured, `contenders` who is, `timing` how; `child` is the process in which it happens, one for
each setting of the allocator; `bar` says what the library must reach, and whether it does.
"""
