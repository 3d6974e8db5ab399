import pytest
from inside import inside as inside
@pytest.mark.parametrize("n", range(150))
def test_loop(inside, job, n):
    a = inside(*job.train("--steps", 5, "--every", 2, "--seed", 7))
    assert (a.code, a.err) == (0, "")
    a = inside(*job.train("--steps", 9))
    assert (a.code, a.err) == (0, "")
