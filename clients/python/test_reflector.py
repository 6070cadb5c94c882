import socket
import time

import pytest

from pytest_reflector import Reflector


def test_answers_and_says_as_whom_it_saw_the_asker(reflector):
    (at,) = reflector.start("127.0.0.1:0", "--echo-info")
    seen = reflector.probe(at)
    assert (seen["verdict"], seen["exit_code"]) == ("ok", 0)
    assert seen["told"]["peer"] == seen["local"]
    assert seen["told"]["local"] == at


def test_listens_at_each_family(reflector):
    addresses = reflector.start("127.0.0.1:0", "--listen", "[::1]:0")
    assert len(addresses) == 2
    for at in addresses:
        assert reflector.probe(at, "--connected")["verdict"] == "ok"


def test_is_gone_when_it_is_stopped(reflector):
    (at,) = reflector.start()
    reflector.stop()
    seen = reflector.probe(at)
    assert (seen["verdict"], seen["exit_code"]) == ("refused", 6)


def test_silence_is_a_verdict(reflector):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        at = "%s:%d" % silent.getsockname()
        seen = reflector.probe(at, "--expect", "timeout", "--timeout", "100ms")
    assert (seen["verdict"], seen["exit_code"]) == ("timeout", 0)


def test_watch_sees_a_restart(reflector):
    (at,) = reflector.start()
    with reflector.watch(at, "--max-lost", "0") as summary:
        assert reflector.probe(at)["verdict"] == "ok"
        reflector.stop()
        # Some of what is sent every 10 ms comes to nobody.
        time.sleep(0.5)
        reflector.start(at)
        assert reflector.probe(at)["verdict"] == "ok"
    assert summary["gaps"] > 0 and summary["unanswered"] > 0
    assert summary["longest_gap"]["length_ms"] > 0
    assert summary["exit_code"] == 5 and summary["missed"]


def test_watch_sees_nothing_where_nothing_is(reflector):
    (at,) = reflector.start()
    with reflector.watch(at, "--max-gap", "5s") as summary:
        time.sleep(0.1)
    assert summary["sent"] > 0
    assert (summary["gaps"], summary["exit_code"]) == (0, 0)


def test_fails_with_what_the_program_said():
    with pytest.raises(pytest.fail.Exception, match="unexpected argument '--no-such-option'"):
        Reflector().start("127.0.0.1:0", "--no-such-option")


def test_is_gone_when_a_test_fails(pytester, reflector):
    """The fixture of a test that fails stops what that test has started."""
    pytester.makeconftest('pytest_plugins = ["pytest_reflector"]')
    pytester.makepyfile(
        """
        def test_fails(reflector):
            print("at", *reflector.start())
            assert False
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    (at,) = [line.split()[1] for line in result.outlines if line.startswith("at ")]
    assert reflector.probe(at)["verdict"] == "refused"
