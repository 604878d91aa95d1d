"""Signs of life: who is silent, who only waits for its turn, and who is back."""

from sitelora.federation.presence import AWAY, BUSY, IDLE, LEFT, Presence


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def presence() -> tuple[Presence, Clock]:
    clock = Clock()
    return Presence(patience_s=60, clock=clock), clock


def test_a_site_at_work_that_falls_silent_is_named_with_the_seconds() -> None:
    here, clock = presence()
    here.ask()
    here.heard("site-1", BUSY)
    clock.now += 60
    assert here.silent(["site-1"]) == {}
    clock.now += 3
    assert here.silent(["site-1"]) == {"site-1": "site-1: no sign of life for 63 s"}


def test_a_site_that_has_not_begun_is_waited_for_while_another_works_and_after_it() -> None:
    here, clock = presence()
    here.heard("site-1", IDLE)
    here.heard("site-2", IDLE)
    here.ask()
    for _ in range(20):
        clock.now += 10
        here.heard("site-2", BUSY)
        assert here.silent(["site-1", "site-2"]) == {}
    here.heard("site-2", IDLE)
    clock.now += 60
    here.heard("site-2", IDLE)
    assert here.silent(["site-1"]) == {}, "its turn comes when the other one is done"
    clock.now += 1
    assert here.silent(["site-1"]) == {"site-1": "site-1: no sign of life for 261 s"}


def test_who_was_never_heard_of_or_waits_for_its_turn_has_the_whole_time_of_its_task() -> None:
    here, clock = presence()
    here.heard("site-1", AWAY)
    here.ask()
    clock.now += 10_000
    assert here.silent(["site-1", "site-2"]) == {}


def test_who_said_goodbye_is_waited_for_only_until_the_server_would_know_of_the_jobs_end() -> None:
    here, clock = presence()
    here.ask()
    here.heard("site-1", BUSY)
    here.heard("site-1", LEFT)
    clock.now += 15
    assert here.silent(["site-1"]) == {}
    clock.now += 1
    assert here.silent(["site-1"]) == {"site-1": "site-1: its process has left the job"}


def test_a_new_task_finds_nobody_at_work() -> None:
    here, clock = presence()
    here.heard("site-1", BUSY)
    clock.now += 50
    here.ask()
    clock.now += 50
    assert here.silent(["site-1"]) == {}
    clock.now += 11
    assert list(here.silent(["site-1"])) == ["site-1"]


def test_a_lost_site_is_back_with_its_next_sign() -> None:
    here, clock = presence()
    here.heard("site-1", BUSY)
    clock.now += 100
    here.lose("site-1")
    assert here.lost() == {"site-1"}
    clock.now += 1
    here.heard("site-1", IDLE)
    assert here.lost() == set()
    assert here.silent(["site-1"]) == {}


def test_an_ended_job_names_those_without_a_last_word() -> None:
    here, _ = presence()
    for site, state in {"site-1": LEFT, "site-2": BUSY, "site-3": AWAY}.items():
        here.heard(site, state)
    assert here.without_a_word(["site-1", "site-2", "site-3", "site-4"]) == {"site-2"}


def test_a_sign_of_unknown_meaning_is_a_sign_of_life() -> None:
    here, clock = presence()
    here.heard("site-1", "x" * 1000)
    clock.now += 59
    assert here.silent(["site-1"]) == {}


def test_a_site_whose_process_never_came_up_is_known_by_its_silence_from_the_start() -> None:
    here, _ = presence()
    here.heard("site-1", IDLE)
    assert here.never_heard(["site-2", "site-1"]) == ["site-2"]
