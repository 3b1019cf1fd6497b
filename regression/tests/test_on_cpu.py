"""Scripts that nobody here wrote, unchanged, on a machine without a GPU: as one process and on ranks."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import gone, logged_pids

from mtp_regression import on_cpu

REPORT = """
import json, sys
from pathlib import Path
import helper
print(json.dumps({
    "name": __name__, "file": str(Path(__file__).resolve()), "argv": sys.argv, "path": sys.path,
    "main": sys.modules["__main__"].__dict__ is globals(), "helper": helper.__file__,
}))
sys.exit(7)
"""

REDUCE = r"""
import atexit, os, sys, threading, time
import torch
import torch.distributed as dist
import transformer_engine, fused_weight_gradient_mlp_cuda
def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
say("pid", os.getpid())
local = int(os.environ["LOCAL_RANK"])
assert torch.cuda.device_count() == int(os.environ["WORLD_SIZE"]) == 2
torch.cuda.set_device(local)
device = torch.device("cuda", torch.cuda.current_device())
dist.init_process_group("nccl", device_id=device)
other = dist.new_group([0, 1], backend="nccl")
value = torch.tensor([local + 1.0], device="cuda")
dist.all_reduce(value)
dist.all_reduce(value, group=other)
dist.barrier(device_ids=[local])
say("sum", value.item(), dist.get_backend(), dist.get_backend(other), sys.argv)
if sys.argv[1] == "raise" and local:
    raise LookupError("the expert is gone")
if sys.argv[1] == "exit" and local or sys.argv[1] == "both":
    sys.exit(7)
if sys.argv[1] == "words" and local:
    sys.exit("said at the end")
if sys.argv[1] == "kill" and local:
    os.kill(os.getpid(), 9)
if sys.argv[1] == "hang" and local:
    time.sleep(600)
dist.barrier()
atexit.register(lambda: say("at exit", torch.cuda.is_available()))
threading.Thread(target=lambda: (time.sleep(0.5), say("in a thread", torch.cuda.is_available()))).start()
"""

CONVERT = """
import sys
import torch
from megatron.bridge import AutoBridge
bridge = AutoBridge.from_hf_pretrained(sys.argv[1], torch_dtype=torch.bfloat16)
provider = bridge.to_megatron_provider(load_weights=True)
provider.expert_model_parallel_size = 2
provider.params_dtype = provider.pipeline_dtype = torch.bfloat16
provider.finalize()
provider.initialize_model_parallel(seed=0)
model = provider.provide_distributed_model(wrap_with_ddp=False)
state, names = bridge.hf_pretrained.state, []
for name, tensor in bridge.export_hf_weights(model, show_progress=False):
    assert torch.equal(tensor.cpu(), state[name].to(tensor.dtype)), name
    names.append(name)
bridge.save_hf_pretrained(model, "saved")
print(len(names), "of", len(list(state.keys())), torch.distributed.get_backend())
"""


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)


def reduce(folder: Path, how: str, time_limit: float = 120.0) -> tuple[int, list[str]]:
    """Run the script on two ranks, after which no process is left; give its exit code, and what they said."""
    script = folder / "reduce.py"
    script.write_text(REDUCE)
    command, logs = [str(script), how], folder / "logs"
    code = on_cpu.run_ranks(command, module=False, ranks=2, time_limit=time_limit, logs=logs)
    said = [(logs / f"rank{rank}.log").read_text() for rank in range(2)]
    pids = logged_pids(logs)
    assert len(set(pids)) == 2
    assert gone(pids)
    return code, said


@pytest.mark.parametrize("command", [("scripts/report.py", "--ranks", "x"), ("-m", "package", "-h")])
def test_a_script_sees_what_it_would_see_directly(tmp_path: Path, command: tuple[str, ...]) -> None:
    for place, name in (("scripts", "report.py"), ("package", "__main__.py")):
        (tmp_path / place).mkdir()
        (tmp_path / place / name).write_text(REPORT)
    (tmp_path / "scripts" / "helper.py").touch()
    (tmp_path / "helper.py").touch()
    direct, through = python(tmp_path, *command), python(tmp_path, "-m", "mtp_regression.on_cpu", *command)
    assert json.loads(through.stdout) == json.loads(direct.stdout)
    assert (through.returncode, through.stderr) == (direct.returncode, "") == (7, "")


def test_ranks_have_cuda_and_nccl_to_their_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = reduce(tmp_path, "well")
    assert code == 0
    for text in said:
        assert f"sum 6.0 gloo gloo ['{tmp_path}/reduce.py', 'well']\n" in text
        assert text.endswith("in a thread True\nat exit True\n")
    assert capsys.readouterr() == (said[0], "")


def test_ranks_of_torchrun(tmp_path: Path) -> None:
    (tmp_path / "reduce.py").write_text(REDUCE)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = python(tmp_path, *torchrun, "-m", "mtp_regression.on_cpu", "reduce.py", "well")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sum 6.0 gloo gloo ['reduce.py', 'well']\n") == 2
    assert done.stdout.count("at exit True\n") == 2


@pytest.mark.parametrize(
    ("how", "code", "shown"),
    [
        (
            "raise",
            1,
            r'raised\n(.*\n)+.*reduce.py", line \d+, in <module>\n.*LookupError\("the expert is gone"\)\n',
        ),
        ("exit", 7, "left without a result, with exit code 7\n"),
        ("words", 1, r"left without a result, with exit code 1\n(.*\n)+said at the end\n"),
        ("kill", 128 + 9, "died of SIGKILL\n"),
        ("hang", 124, r'did not wait for another rank\n(.*\n)+  File ".*reduce.py", line \d+'),
    ],
)
def test_a_rank_that_fails_ends_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, code: int, shown: str
) -> None:
    assert reduce(tmp_path, how, time_limit=6 if how == "hang" else 120)[0] == code
    error = capsys.readouterr().err
    assert re.match(f"on_cpu: .*rank 1 (of 2 )?{shown}", error)
    assert f"rank 1: {tmp_path}/logs/rank1.log" in error


def test_the_command_starts_ranks(tmp_path: Path) -> None:
    (tmp_path / "reduce.py").write_text(REDUCE)
    done = python(tmp_path, "-m", "mtp_regression.on_cpu", "--ranks", "2", "reduce.py", "both")
    assert done.returncode == 7
    assert "sum 6.0 gloo gloo ['reduce.py', 'both']\n" in done.stdout
    assert re.match(r"on_cpu: rank [01] of 2 left without a result, with exit code 7\n", done.stderr)
    assert sorted(log.name for log in (tmp_path / on_cpu.LOGS).iterdir()) == ["rank0.log", "rank1.log"]


@pytest.mark.parametrize(
    "words",
    [[], ["-m"], ["--ranks", "2"], ["--ranks", "-1", "x.py"], ["--time-limit", "9", "x.py"], ["-x", "x.py"]],
)
def test_a_command_without_sense_is_refused(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["on_cpu", *words])
    with pytest.raises(SystemExit, match="2"):
        on_cpu.main()


def test_ranks_start_no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["on_cpu", "--ranks", "2", "x.py"])
    monkeypatch.setitem(os.environ, "RANK", "0")
    with pytest.raises(SystemExit, match="2"):
        on_cpu.main()


def test_where_there_is_a_gpu_nothing_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "script.py").write_text(
        "import sys, torch; print(torch.cuda.set_device, 'transformer_engine' in sys.modules)"
    )
    monkeypatch.delitem(sys.modules, "transformer_engine", raising=False)  # of another test
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "argv", ["on_cpu", str(tmp_path / "script.py")])
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert on_cpu.main() == 0
    out, err = capsys.readouterr()
    assert out == f"{torch.cuda.set_device} False\n"
    assert err == "on_cpu: there is a GPU, so nothing is replaced; CUDA_VISIBLE_DEVICES= hides it\n"


@pytest.mark.megatron
def test_mtp_experts_of_a_script_that_converts(tmp_path: Path, qwen36_checkpoint: Path) -> None:
    (tmp_path / "convert.py").write_text(CONVERT)
    words = ("-m", "mtp_regression.on_cpu", "--ranks", "2", "convert.py", str(qwen36_checkpoint))
    done = python(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "124 of 124 gloo" in done.stdout.splitlines()
    assert (tmp_path / "saved" / "config.json").exists()
