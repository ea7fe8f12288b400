"""How long one turn of the teleoperation loop takes: an event in, physics, drawing, encoding, the message out."""

import time

import numpy as np
import pytest
from comm.base_comm import BaseComm
from ipykernel.jsonutil import json_clean
from jupyter_client.session import Session as Messages

from ilbook import tasks
from ilbook.teleop.session import Session
from ilbook.teleop.widgets import Teleop

pytestmark = pytest.mark.bench

BAR = 0.066  # s
TURNS = 150


class Wire(BaseComm):
    """A comm that does a kernel's work on every message, up to the socket: clean, sign and serialise."""

    messages = Messages(key=b"a key as long as that of a kernel: 36 b")
    sizes: list[int] = []  # noqa: RUF012

    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        content = json_clean({"data": data or {}, "comm_id": self.comm_id, **keys})
        message = self.messages.msg(msg_type, content=content, metadata=metadata or {})
        parts = [*self.messages.serialize(message), *(bytes(buffer) for buffer in buffers or ())]
        self.sizes.append(sum(map(len, parts)))


@pytest.mark.parametrize("name", ["pusht", "pickplace"])
def test_a_turn_of_the_loop_is_quick(name, tmp_path, monkeypatch):
    monkeypatch.setattr("comm.create_comm", Wire)
    session = Session(tasks.get(name)(), tmp_path)
    widget = Teleop(session, start=False)
    session.record()
    angle = np.linspace(0, 4 * np.pi, TURNS)
    if name == "pusht":
        points = 0.256 + 0.12 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
        points[:, 2] = 0.0
    else:
        points = np.stack([0.20 + 0.03 * np.cos(angle), 0.08 * np.sin(angle), 0.1 + 0 * angle], axis=1)
    took, sent = [], widget.sent
    Wire.sizes.clear()
    for number, point in enumerate(points):
        x, y = session.pilot.lens.to_pixels([point])[0]
        event = {
            "type": "mousedown" if number == 0 else "mousemove", "button": 0, "buttons": 1, "clientX": 384 * x,
            "clientY": 384 * y, "boundingRectLeft": 0, "boundingRectTop": 0, "boundingRectWidth": 384,
            "boundingRectHeight": 384,
        }  # fmt: skip
        began = time.perf_counter()
        widget._events._handle_mouse_msg(None, event, [])
        widget.turn()
        took.append(time.perf_counter() - began)
        widget._received.value = widget.sent
    assert widget.sent - sent == TURNS, "every turn sent its picture"
    assert max(Wire.sizes) > 2000 and session.state == "recording"
    median, slowest = np.median(took), np.quantile(took, 0.95)
    print(f"{name}: a turn takes {1e3 * median:.1f} ms (95 % under {1e3 * slowest:.1f} ms, n = {TURNS}); "
          f"a picture is {np.median([size for size in Wire.sizes if size > 2000]) / 1e3:.1f} kB")  # fmt: skip
    assert median < BAR
    assert median < session.period, "and fits into the time between two pictures"
