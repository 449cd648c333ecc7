"""The serving process: a voice for one base and many adapters, its line protocol, its owners and its end."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import base_folder, tiny_model, tiny_tokenizer

from slm.data.examples import Message, Messages, PromptCompletion
from slm.data.render import Rendered, Renderer
from slm.errors import RunFailure
from slm.generate import Said, Sampling, converse, generate
from slm.serve import Gone, Question, Server
from slm.serve_client import ADDRESS, LOCK, SPEC, ServeSpec, ServingFailed, ServingProcess, Wish, parse_wish, sweep
from slm.spec import ModelRef
from slm.voice import Refused, Voice
from slm.warm_client import WarmProcess

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
TURNS = ({"role": "user", "content": "What is the cat?"},)
SAMPLED: dict[str, Any] = {"messages": TURNS, "max_new_tokens": 20, "temperature": 1.0, "top_p": 1.0, "seed": 5}


def adapter_folder(folder: Path, architecture: str = "llama", *, seed: int = 1) -> str:
    """A random adapter that changes what is said."""
    torch.manual_seed(seed)
    gpt2 = architecture == "gpt2"
    lora = LoraConfig(
        r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False, fan_in_fan_out=gpt2
    )
    get_peft_model(tiny_model(architecture), lora).save_pretrained(folder)
    return str(folder)


def reference(folder: Path, *adapters: str) -> ModelRef:
    return ModelRef(model_id="base", name="Tiny", path=str(folder), adapters=adapters)


def say(voice: Voice, *sides: str | None, **options: Any) -> list[Said]:
    wish = Wish(sides=sides, **(SAMPLED | options))
    return voice.answer(voice.prompt(wish), wish, say=lambda side, words: None, check=lambda: None)


@pytest.fixture(scope="module", params=["llama", "gpt2", "qwen2"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def voice(family: str, tmp_path_factory: pytest.TempPathFactory) -> Voice:
    return Voice(reference(base_folder(tmp_path_factory.mktemp(family), family)), context=128, max_adapters=2)


@pytest.fixture(scope="module")
def adapters(family: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("adapters")
    return [adapter_folder(folder / str(seed), family, seed=seed) for seed in range(3)]


def test_a_model_is_asked_exactly_as_it_was_taught(voice: Voice) -> None:
    """The prompt of training and of chat are the same tokens, over several turns."""
    turns = [("system", "Be kind."), ("user", "red?"), ("assistant", "cat"), ("user", "blue one?")]
    taught = Renderer(voice.tokenizer, max_length=4096).render(
        Messages((*(Message(*turn) for turn in turns), Message("assistant", "bird"))), 1
    )
    assert isinstance(taught, Rendered)
    asked = tuple({"role": role, "content": content} for role, content in turns)
    assert voice.prompt(Wish(sides=(None,), messages=asked)).ids == taught.prompt_ids
    question = Renderer(voice.tokenizer, max_length=4096).render(PromptCompletion("red?", "cat"), 1)
    assert isinstance(question, Rendered)
    assert voice.prompt(Wish(sides=(None,), prompt="red?")).ids == question.prompt_ids


def test_a_text_is_gone_on_with(voice: Voice) -> None:
    plain = voice.tokenizer("The cat", verbose=False)["input_ids"]
    assert voice.prompt(Wish(sides=(None,), prompt="The cat", manner="text")).ids == plain
    either = voice.prompt(Wish(sides=(None,), prompt="The cat", manner="either")).ids
    assert (either == plain) == (voice.tokenizer.chat_template is None)


def test_what_does_not_fit_the_context_is_refused_in_tokens(voice: Voice) -> None:
    with pytest.raises(Refused, match=r"is \d+ tokens long; 'Tiny' is given at most 128 tokens") as caught:
        voice.prompt(Wish(sides=(None,), prompt="red cat " * 200))
    assert caught.value.code == "context_too_long"
    long = voice.prompt(Wish(sides=(None,), prompt="red cat " * 40))
    wish = Wish(sides=(None,), prompt="red cat " * 40, max_new_tokens=4096, temperature=1.5, seed=1)
    said = voice.answer(long, wish, say=lambda side, words: None, check=lambda: None)
    assert said[0].tokens <= long.room == 128 - len(long.ids)


def test_every_side_says_beside_others_what_it_says_alone(voice: Voice, adapters: list[str]) -> None:
    for options in ({"temperature": 0.0}, {}, {"top_p": 0.5, "seed": 8}):
        base, first, second = (say(voice, side, **options)[0] for side in (None, *adapters[:2]))
        assert say(voice, adapters[0], None, **options) == [first, base]
        assert say(voice, None, adapters[1], adapters[0], **options) == [base, second, first]
    assert len({base.text, first.text, second.text}) > 1


def test_who_ends_sooner_took_less_time(voice: Voice, adapters: list[str]) -> None:
    (whole,) = say(voice, adapters[0], temperature=0.0)
    stop = (whole.text[: len(whole.text) // 4],)
    for sides in ((None, adapters[0]), (adapters[0], None)):
        said = say(voice, *sides, temperature=0.0, stop=stop)
        assert all(one.seconds > 0 for one in said)
        if said[0].tokens != said[1].tokens:
            shorter, longer = sorted(said, key=lambda one: one.tokens)
            assert shorter.seconds < longer.seconds


def test_greedy_chat_says_what_scoring_heard(family: str, tmp_path: Path) -> None:
    """`converse` and `generate`, by which scorecards are made, give the same text."""
    model, tokenizer = tiny_model(family, seed=3).eval(), tiny_tokenizer(chat=family != "gpt2")
    for words in ("What is the cat", "blue", "red one two"):
        prompt = tokenizer(words)["input_ids"]
        scored = generate(model, tokenizer, [prompt], sampling=Sampling(16))[0]
        assert converse(model, tokenizer, prompt, sampling=Sampling(16))[0].text == scored


def test_an_adapter_that_was_not_used_for_long_makes_room(voice: Voice, adapters: list[str]) -> None:
    before = [say(voice, folder)[0] for folder in adapters]
    assert voice.adapters == adapters[1:]
    assert [say(voice, folder)[0] for folder in adapters] == before


def test_an_answer_of_two_sides_that_is_broken_off_leaves_nothing_behind(voice: Voice, adapters: list[str]) -> None:
    """PEFT's hooks of a mixed batch would stay on the model if an exception went through them."""
    before = [say(voice, side) for side in (adapters[0], None)]
    left = [3]

    def check() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Gone

    wish = Wish(sides=(adapters[0], None), **SAMPLED)
    with pytest.raises(Gone):
        voice.answer(voice.prompt(wish), wish, say=lambda side, words: None, check=check)
    assert [say(voice, side) for side in (adapters[0], None)] == before


def said_by_one_side_only(voice: Voice, adapter: str) -> tuple[int, str, Said, Said]:
    """A seed with which the tuned side says two letters that the base does not; the machine decides which seed."""
    for seed in range(200):
        tuned, base = say(voice, adapter, None, seed=seed)
        for at in range(1, len(tuned.text) - 1):
            if (pair := tuned.text[at : at + 2]) not in base.text and base.tokens > 1:
                return seed, pair, tuned, base
    raise AssertionError("the adapter changes nothing of what is said")


def test_a_stop_text_ends_one_side_and_not_the_other(voice: Voice, adapters: list[str]) -> None:
    seed, stop, tuned, base = said_by_one_side_only(voice, adapters[0])
    cut, whole = say(voice, adapters[0], None, stop=(stop,), seed=seed)
    assert cut.text == tuned.text[: tuned.text.index(stop)].strip()
    assert cut.finish_reason == "stop"
    assert whole == base
    assert cut.tokens <= tuned.tokens


def test_likely_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    """The Gumbel trick against the softmax: 4,000 draws over a few tokens, within four standard errors."""
    from slm.generate import _Draw

    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    draw = _Draw(Sampling(1, temperature=1.0, top_p=1.0, seed=1), 1)
    counts = torch.zeros(4)
    for _ in range(4000):
        counts[draw(torch.zeros(1, 1), scores).argmax()] += 1
    expected = scores[0].softmax(-1)
    error = (expected * (1 - expected) / 4000).sqrt()
    assert ((counts / 4000 - expected).abs() < 4 * error).all()
    narrow = _Draw(Sampling(1, temperature=1.0, top_p=0.6, seed=1), 1)
    assert all(narrow(torch.zeros(1, 1), scores).argmax() == 0 for _ in range(50))


def test_an_encoder_has_no_voice(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForMaskedLM(BertConfig(vocab_size=512, **small)).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(RunFailure, match="BertForMaskedLM"):
        Voice(reference(tmp_path), context=128)


# -- the process


def carried_out(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 200))


async def told(process: ServingProcess, **options: Any) -> list[dict[str, Any]]:
    return [line async for line in process.ask(Wish(**({"sides": (None,)} | SAMPLED | options)))]


async def drained(lines: AsyncIterator[dict[str, Any]]) -> None:
    async for _ in lines:
        continue


async def ended(pid: int) -> None:
    for _ in range(400):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the serving process lives on")


def spec_of(folder: Path, architecture: str = "llama", **sizes: int) -> ServeSpec:
    return ServeSpec(reference(base_folder(folder, architecture, **sizes)), context=256, threads=1)


def test_a_process_serves_its_owners_and_ends_with_the_last(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)

    async def work() -> None:
        first, second = (ServingProcess(tmp_path, spec, warm=False) for _ in range(2))
        await first.start()
        await second.start()
        assert (first.via, second.via) == ("spawn", "found")
        assert first.pid == second.pid
        address = json.loads((first.directory / ADDRESS).read_bytes())
        assert (first.directory / ADDRESS).stat().st_mode & 0o777 == 0o600
        assert Path(address["socket"]).stat().st_mode & 0o777 == 0o600
        lines = await told(second)
        assert [lines[0]["event"], lines[-1]["event"]] == ["accepted", "done"]
        assert "".join(line["text"] for line in lines[1:-1]) == lines[-1]["sides"][0]["text"]
        assert lines[-1]["sides"][0]["tokens"] == 20
        await first.stop(seconds=0.1)
        assert (await told(second))[-1]["event"] == "done"
        await second.stop()
        assert first.pid is not None
        await ended(first.pid)
        assert not Path(address["socket"]).exists()
        assert not first.directory.exists()

    carried_out(work)


def test_what_a_crash_left_is_swept_and_what_is_served_is_not(tmp_path: Path) -> None:
    process = ServingProcess(tmp_path, spec_of(tmp_path), warm=False)
    dead = tmp_path / "serving" / "0123456789abcdef"
    dead.mkdir(parents=True)
    for name in (LOCK, ADDRESS, "stdout.log"):
        (dead / name).write_text("left")

    async def work() -> None:
        sweep(tmp_path / "nothing here")
        await process.start()
        sweep(tmp_path)
        assert not dead.exists()
        assert (await told(process))[-1]["event"] == "done"
        await process.stop()

    carried_out(work)


def test_questions_are_answered_in_the_order_of_asking(tmp_path: Path) -> None:
    process = ServingProcess(tmp_path, spec_of(tmp_path), warm=False)

    async def work() -> None:
        await process.start()
        order: list[int] = []

        async def ask(number: int) -> None:
            assert (await told(process, seed=number))[-1]["event"] == "done"
            order.append(number)

        asking = []
        for number in range(6):
            asking.append(asyncio.create_task(ask(number)))
            await asyncio.sleep(0.01)
        await asyncio.gather(*asking)
        assert order == list(range(6))
        await process.stop()

    carried_out(work)


def test_a_refusal_is_said_and_the_process_goes_on(tmp_path: Path) -> None:
    process = ServingProcess(tmp_path, spec_of(tmp_path), warm=False)

    async def work() -> None:
        await process.start()
        refused = await told(process, messages=(), prompt="red cat " * 300)
        assert [line["event"] for line in refused] == ["refused"]
        failed = await told(process, sides=(str(tmp_path / "nowhere"),))
        assert [failed[-1]["event"], failed[-1]["code"]] == ["failed", "weights_refused"]
        assert (await told(process))[-1]["event"] == "done"
        await process.stop()

    carried_out(work)


def test_weights_that_do_not_load_are_told_to_everybody_who_asks(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    (Path(spec.model.path) / "model.safetensors").write_bytes(b"nonsense")

    async def work() -> None:
        process = ServingProcess(tmp_path, spec, warm=False)
        await process.start()
        for _ in range(2):
            answer = (await told(process))[-1]
            assert (answer["event"], answer["fault"]) == ("failed", "user")
            assert answer["code"] in {"weights_refused", "model_unsupported"}
        await process.stop()

    carried_out(work)


def test_a_process_that_dies_in_mid_answer_is_told_and_replaced(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "qwen2", hidden=256, layers=8)

    async def work() -> None:
        process = ServingProcess(tmp_path, spec, warm=False)
        await process.start()
        assert process.pid is not None
        wish = Wish(**({"sides": (None,)} | SAMPLED | {"max_new_tokens": 200}))
        async with aclosing(process.ask(wish)) as lines:
            while (await anext(lines))["event"] != "words":
                continue
            psutil.Process(process.pid).kill()
            with pytest.raises(ServingFailed, match="ended in mid-answer; memory is the usual cause"):
                await drained(lines)
        await process.stop()
        fresh = ServingProcess(tmp_path, spec, warm=False)
        await fresh.start()
        assert fresh.via == "spawn"
        assert (await told(fresh))[-1]["event"] == "done"
        await fresh.stop()

    carried_out(work)


def test_a_stranger_without_the_token_hears_nothing(tmp_path: Path) -> None:
    process = ServingProcess(tmp_path, spec_of(tmp_path), warm=False)

    async def work() -> None:
        await process.start()
        address = json.loads((process.directory / ADDRESS).read_bytes())
        for first in (b'{"token": "wrong", "role": "owner"}\n', b"nonsense\n", b"[]\n", b"{}\n"):
            reader, writer = await asyncio.open_unix_connection(address["socket"])
            writer.write(first)
            assert await reader.read() == b""
            writer.close()
        assert (await told(process))[-1]["event"] == "done"
        await process.stop()

    carried_out(work)


def test_forked_from_the_warm_process_where_there_is_one(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    warm = WarmProcess(tmp_path)
    warm.start()
    try:

        async def work() -> None:
            while not await asyncio.to_thread(warm.ready):
                assert warm.pid is not None, (tmp_path / "warm.log").read_text()
                await asyncio.sleep(0.1)
            process = ServingProcess(tmp_path, spec)
            await process.start()
            assert process.via == "warm"
            assert (await told(process))[-1]["event"] == "done"
            warm.stop()
            assert (await told(process))[-1]["event"] == "done"  # it is nobody's child
            await process.stop()
            assert process.pid is not None
            await ended(process.pid)

        carried_out(work)
    finally:
        warm.stop()


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    async def work() -> None:
        process = ServingProcess(tmp_path, spec_of(tmp_path), warm=False, python="/bin/false")
        with pytest.raises(ServingFailed, match="did not start: it said nothing"):
            await process.start()

    carried_out(work)


# -- one process's parts


class Speaker:
    """Answers as many words as it is asked for, and remembers how it was asked."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def prompt(self, wish: Wish) -> Any:
        return type("Prompt", (), {"ids": [1, 2]})

    def answer(self, prompt: Any, wish: Wish, *, say: Any, check: Any) -> list[Said]:
        for at in range(wish.max_new_tokens):
            say(0, str(at))
            check()
            self.threads.append(torch.get_num_threads())
        return [Said("text", "stop", 1, 0.5)]


def server(folder: Path, *, threads: int = 3) -> Server:
    document = {"model": reference(folder).model_dump(mode="json"), "context": 128, "threads": threads}
    (folder / SPEC).write_text(json.dumps(document))
    return Server(folder)


def test_an_asker_who_has_gone_ends_the_answer_at_the_next_token(tmp_path: Path) -> None:
    speaker, sent = Speaker(), []
    question = Question(Wish(sides=(None,), max_new_tokens=100), sent.append)

    def send(line: dict[str, Any]) -> None:
        sent.append(line)
        if line["event"] == "words" and line["text"] == "4":
            question.gone.set()

    question.send = send
    with pytest.raises(Gone):
        server(tmp_path)._answer(speaker, question)  # type: ignore[arg-type]
    assert sent[-1]["text"] == "4"


def test_an_owner_who_wants_fewer_threads_is_obeyed_from_the_next_token_on(tmp_path: Path) -> None:
    made, speaker, before = server(tmp_path), Speaker(), torch.get_num_threads()

    class Owner:
        """Says how many threads it wants, twice, and leaves."""

        lines = [b'{"threads": 1}\n', b'{"threads": null}\n', b""]

        async def readline(self) -> bytes:
            torch.set_num_threads(5)
            made._answer(speaker, Question(Wish(sides=(None,), max_new_tokens=2), lambda line: None))  # type: ignore[arg-type]
            return self.lines.pop(0)

    async def work() -> None:
        made._owned, made._deserted = asyncio.Event(), asyncio.Event()
        await made._be_owned(Owner(), type("Writer", (), {"write": lambda self, line: None})())  # type: ignore[arg-type]
        assert made._deserted.is_set()

    try:
        carried_out(work)
    finally:
        torch.set_num_threads(before)
    assert speaker.threads == [3, 3, 1, 1, 3, 3]


def test_a_process_that_nobody_owns_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("slm.serve.UNOWNED_SECONDS", 0.1)
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)  # nothing is to be loaded here
    made = server(tmp_path)
    carried_out(made.listen)
    assert "nobody came" in capsys.readouterr().err
    assert not (tmp_path / ADDRESS).exists()


def test_the_key_follows_the_weights_and_memory_their_size(tmp_path: Path) -> None:
    small = spec_of(tmp_path)
    key = small.key
    assert key == ServeSpec(small.model, context=256, threads=8).key
    assert key != ServeSpec(small.model, context=128, threads=1).key
    weights = Path(small.model.path) / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    assert small.key != key
    larger = spec_of(tmp_path / "larger", hidden=256, layers=8)
    assert larger.memory_bytes() - small.memory_bytes() > 1.1 * 4 * 4_000_000


def test_a_wish_survives_its_way() -> None:
    wish = Wish(sides=("a", None), messages=TURNS, stop=("x",), seed=3, temperature=0.5)
    from dataclasses import asdict

    assert parse_wish(json.loads(json.dumps(asdict(wish)))) == wish
