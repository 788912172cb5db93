"""The quiz: `normlab quiz`. One source, quiz.toml; asked in the terminal, and written out as docs/notes/quiz.md.

schema.py reads the questions, numbers/ draws those with fresh numbers, grading.py judges an answer (arithmetic.py reads
numbers, bugs.py runs code); session.py says what comes next, progress.py keeps it on disk, ask*.py talk, export.py and
reading.py write.
"""
