"""What stands at the end of a session: the sums by topic, what to read again, and the sum over all sessions."""

from rich import box
from rich.table import Table

from normlab.learn.quiz.ask_screen import Screen
from normlab.learn.quiz.export import title_of
from normlab.learn.quiz.session import Score, Session, by_topic, score, to_read


def show_result(screen: Screen, session: Session, everything: Score) -> None:
    """Print the result of a session; `everything`: the sum of all sessions."""
    own = score(session.answers)
    if own.asked:
        screen.show(_table(screen, session, own))
    if own.skipped:
        screen.say(f"Skipped: {own.skipped}.")
    if again := to_read(screen.quiz, session):
        screen.say("Read again:\n" + "\n".join(f"  {screen.notes(question)}" for question in again))
    if everything.asked:
        share = f"{everything.right / everything.asked:.0%}"
        screen.say(f"Over all sessions: {everything.asked} answered, {everything.right} right ({share}).")


def _table(screen: Screen, session: Session, own: Score) -> Table:
    """The sums by topic; skipped questions are left out."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, show_footer=True)
    table.add_column("topic", footer="together")
    for name, number in (("asked", own.asked), ("right", own.right), ("points", f"{own.points:.4g}")):
        table.add_column(name, justify="right", footer=str(number))
    for topic, one in by_topic(screen.quiz, session).items():
        if one.asked:
            table.add_row(title_of(screen.quiz, topic), str(one.asked), str(one.right), f"{one.points:.4g}")
    return table
