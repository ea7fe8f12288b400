"""Page 03: a solution of each exercise, and wrong answers that its check must refuse."""


# exercise: 1
def label(meant, executed):
    """Which of the two arrays (T, A) goes into the data set?"""
    return meant


# wrong: 1
def label(meant, executed):
    # the slip is taught as if it had been meant
    return executed


# wrong: 1
def label(meant, executed):
    # half of the slip
    return (meant + executed) / 2


# wrong: 1
def label(meant, executed):
    # a correction that nobody meant
    return 2 * meant - executed


# wrong: 1
def label(meant, executed):
    # the lesser of each two numbers
    return np.minimum(meant, executed)


# exercise: 2
def steps_needed(begin, end, task):
    """Control steps that the command needs from `begin` to `end` (2,), metres."""
    step = task.max_speed / task.control_hz  # metres
    return int(np.ceil(np.linalg.norm(end - begin) / step))


# wrong: 2
def steps_needed(begin, end, task):
    # a step that is begun does not count
    return int(np.linalg.norm(end - begin) * task.control_hz / task.max_speed)


# wrong: 2
def steps_needed(begin, end, task):
    # one too many
    return int(np.linalg.norm(end - begin) * task.control_hz / task.max_speed) + 1


# wrong: 2
def steps_needed(begin, end, task):
    # around the corner, not in a straight line
    return int(np.ceil(np.abs(end - begin).sum() * task.control_hz / task.max_speed))


# wrong: 2
def steps_needed(begin, end, task):
    # the longer side only
    return int(np.ceil(np.abs(end - begin).max() * task.control_hz / task.max_speed))


# wrong: 2
def steps_needed(begin, end, task):
    # always the speed and the rate of PushT
    return int(np.ceil(np.linalg.norm(end - begin) * PushT.control_hz / PushT.max_speed))


# exercise: 3
strengths = {"lag": 2.0}  # when the rules take effect, the pusher is elsewhere

# wrong: 3
strengths = {}

# wrong: 3
strengths = {"camera": 2.0, "colours": 2.0, "distractors": 2.0}

# wrong: 3
strengths = {"lag": 20.0}

# wrong: 3
strengths = {"mass": 2.0, "friction": 2.0}
