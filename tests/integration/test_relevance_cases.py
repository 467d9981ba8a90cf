"""Relevance of things that look alike: codes, versions and names, and scripts that the embedding
model cannot read. With the real model, and for blocks that no worker has seen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
import pytest_asyncio
from tests.support.running import Plan, ingest, working

from luma_memory.domain.clock import SystemClock
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import SearchResult
from luma_memory.pipeline.recall.calibration import Calibrations
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.postgres.database import Database
from luma_memory.providers.completion.extract.question import LocalQuestionReader
from luma_memory.providers.embedding.local import LocalEmbedder
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.vector_models import PostgresVectorModels
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.sample_blocks import new_block

ADA = Scope("default", "ada")

SIMILAR_TEXTS = {
    "codes": (
        ["Error E0277: the trait bound is not satisfied, add a derive."],
        ["Error E0277", "What does E0277 mean?", "error e0277 trait bound"],
        ["Error E0999", "What does E0999 mean?", "Error E0278 trait bound not satisfied"],
    ),
    "versions": (
        ["payments-api:2.3.1 went live, the old nodes are gone."],
        ["Is payments-api:2.3.1 live?", "payments-api 2.3.1", "When did v2.3.1 go live?"],
        ["Is payments-api:2.1.3 live?", "payments-api 9.9.9", "When did v3.0.0 go live?"],
    ),
    "tokens": (
        ["My token is aB3_xY-9.", "Lunch with Sam at noon.", "We write C++ at work."],
        ["aB3_xY-9", "token", "C++", "Sam"],
        ["X", "xY", "9", "aB3", "C", "C#"],
    ),
    "acronyms": (
        ["IT approved the laptop.", "HR approved the leave.", "The US office is closed."],
        ["IT", "US", "HR", "Did IT approve the laptop?"],
        ["WHO", "the OR department"],
    ),
    "grouped numbers": (
        ["The book is ISBN 978-3-16-148410-0.", "Call the plumber at 555-12-34."],
        ["978-3-16-148410-0", "9783161484100", "555-12-34"],
        ["978-3-16-148410-1", "555-12-35", "5551235"],
    ),
    "orders": (
        ["Order 48213 was shipped to Graz by courier.", "Invoice 2210 is paid."],
        ["Where is order 48213?", "order 48213"],
        ["Where is order 48214?", "order 99120", "Is invoice 2211 paid?"],
    ),
    "names": (
        ["Anna likes green tea and lives in Graz.", "Tom plays chess on Sundays."],
        ["What does Anna like to drink?", "Where does Anna live?"],
        ["What does Xaver like to drink?", "Where does Brunhilda live?"],
    ),
    "flights": (
        ["Flight BA117 to Rome leaves on Tuesday."],
        ["When does flight BA117 leave?"],
        ["When does flight BA118 leave?", "flight LH4711 to Rome"],
    ),
}
OTHER_SCRIPTS = {
    "Korean": (
        ["오늘 점심은 김치찌개를 먹었다", "내일 치과 예약이 있다", "고양이 이름은 나비다"],
        ["고양이 이름이 뭐야?", "치과 예약이 언제야?"],
        ["환율이 얼마나 올랐나요?", "비행기 표를 샀나요?"],
    ),
    "Korean questions": (
        ["오늘 점심은 김치찌개를 먹었다.", "고양이가 소파에서 잔다.", "내일 비가 온다고 한다."],
        ["고양이는 어디서 자나요?", "점심에 무엇을 먹었나요?"],
        ["환율이 얼마나 올랐나요?", "회의는 어디에서 하나요?", "누가 자동차를 샀습니까?"],
    ),
    "numbered": (
        ["Ticket ABC-123 is closed.", "CVE-2024-3094 is critical.", "Invoice 4711 was paid."],
        ["Ticket ABC-123", "Was invoice 4711 paid?", "CVE-2024-3094"],
        ["Ticket ABC-999", "Was invoice 4712 paid?", "CVE-2024-9999"],
    ),
    "Japanese": (
        ["昨日は京都で寺を見た", "明日は歯医者の予約がある", "猫の名前はタマです"],
        ["猫の名前は？", "歯医者の予約はいつ？"],
        ["為替レートはどうなった？", "新しい車の色は何ですか"],
    ),
    "Chinese": (
        ["昨天我们去了北京", "明天预约了牙医", "我的猫叫小花"],
        ["牙医预约", "我的猫叫什么"],
        ["汇率涨了多少？", "新车是什么颜色"],
    ),
    "Thai": (
        ["แมวของฉันชื่อมะลิ", "พรุ่งนี้มีนัดหมอฟัน"],
        ["แมวของฉันชื่ออะไร"],
        ["อัตราแลกเปลี่ยนเพิ่มขึ้นเท่าไร"],
    ),
    "Arabic": (
        ["اسم قطتي ياسمين", "موعد طبيب الأسنان غدا"],
        ["اسم قطتي", "متى موعد طبيب الأسنان؟"],
        ["كم ارتفع سعر الصرف؟"],
    ),
    "Hindi": (
        ["मेरी बिल्ली का नाम मीना है", "कल दंत चिकित्सक से मिलना है"],
        ["मेरी बिल्ली का नाम"],
        ["विनिमय दर कितनी बढ़ी?"],
    ),
    "Russian": (
        ["Мою кошку зовут Мурка", "Завтра приём у стоматолога"],
        ["Как зовут мою кошку?", "приём у стоматолога"],
        ["Насколько вырос курс валюты?"],
    ),
    "Greek": (
        ["Η γάτα μου λέγεται Μελίνα", "Αύριο έχω ραντεβού στον οδοντίατρο"],
        ["Πώς λέγεται η γάτα μου;"],
        ["Πόσο ανέβηκε η ισοτιμία;"],
    ),
    "Hebrew": (
        ["שם החתול שלי הוא מיצי", "מחר תור לרופא שיניים"],
        ["שם החתול שלי"],
        ["בכמה עלה שער החליפין?"],
    ),
    "mixed": (
        ["프로젝트 Falcon 배포는 금요일이다", "猫の名前はタマです"],
        ["Falcon 배포 금요일", "프로젝트 Falcon 배포"],
        ["프로젝트 Condor 배포는 언제?", "Xaverは何時に来ますか"],
    ),
    "emoji": (
        ["We won the cup 🏆", "The trip was fine 🚲"],
        ["🏆", "🚲"],
        ["🦖", "🎻🎻"],
    ),
}
CASES = SIMILAR_TEXTS | OTHER_SCRIPTS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def minilm() -> AsyncIterator[LocalEmbedder]:
    opened = await LocalEmbedder.open()
    yield opened
    await opened.close()


def _recall(database: Database, embedder: LocalEmbedder) -> Recall:
    return Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=3),
        embedder=embedder,
        emit=EventLog(),
        reader=LocalQuestionReader(SystemClock()),
        calibrations=Calibrations(PostgresVectorModels(database)),
    )


async def _ask(recall: Recall, query: str) -> SearchResult:
    request = SearchRequest(scope=ADA, query=query, limit=3, relevant_only=True)
    return await recall.search(request)


async def _misjudged(
    recall: Recall, relevant_queries: Sequence[str], unanswered: Sequence[str]
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for query in (*relevant_queries, *unanswered):
        result = await _ask(recall, query)
        if (
            result.is_relevant != (query in relevant_queries)
            or bool(result.hits) != result.is_relevant
        ):
            found[query] = [round(hit.relevance, 2) for hit in result.hits]
    return found


@pytest.mark.parametrize("kind", CASES)
async def test_only_what_is_stored_is_relevant(
    kind: str, database: Database, minilm: LocalEmbedder
) -> None:
    texts, relevant_queries, unanswered = CASES[kind]
    await PostgresVectorModels(database).register(minilm.model.id)
    await ingest(database, *[replace(new_block(text), scope=ADA) for text in texts])
    recall = _recall(database, minilm)
    async with working(database, Plan(embedder=minilm)) as running:
        await running.events.wait_for(JobCompleted, count=len(texts))
    assert await _misjudged(recall, relevant_queries, unanswered) == {}


JUST_ACCEPTED = [
    ("The garage code is 4711.", "What is the garage code?"),
    ("Der Zahnarzt hat am Montag geöffnet.", "Wann hat der Zahnarzt geöffnet?"),
    ("Le code du portail est 2208.", "Quel est le code du portail ?"),
    ("Error E0277 in the parser.", "Error E0277"),
    ("고양이 이름은 나비다", "고양이 이름이 뭐야?"),
    ("会議室：１２０３", "1203"),
]


@pytest.mark.parametrize(("text", "query"), JUST_ACCEPTED)
async def test_a_block_just_accepted_is_relevant_to_its_own_words(
    text: str, query: str, database: Database, minilm: LocalEmbedder
) -> None:
    await ingest(database, replace(new_block(text), scope=ADA))
    result = await _ask(_recall(database, minilm), query)
    assert [hit.block.content for hit in result.hits] == [text]
