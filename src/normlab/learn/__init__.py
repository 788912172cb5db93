"""Learning: the quiz (`normlab.learn.quiz`), and the room in which a learner's code runs (`normlab.learn.sandbox`)."""
