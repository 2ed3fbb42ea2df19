"""The calls of `CodeContextService` that ask an idle context about its names."""

from __future__ import annotations

from typing import Any

import grpc

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext_service.config import Config
from codecontext_service.contexts.manager import ContextManager
from codecontext_service.domain.questions import AnswerT, Completion, Inspection, Question

from . import conversion
from .deadline import time_for_answer
from .errors import unary
from .validation import Checks

_Call = grpc.aio.ServicerContext[Any, Any]


class QuestionCalls:
    """The part of the servicer that asks."""

    _config: Config
    _manager: ContextManager

    async def _ask(
        self,
        request: pb.CompleteCodeRequest | pb.InspectCodeRequest,
        question: Question[AnswerT],
        checks: Checks,
        context: _Call,
    ) -> AnswerT:
        self._manager.registry.get(request.context_id)
        checks.code_size(request.code, self._config.max_code_bytes)
        if not 0 <= request.cursor <= len(request.code):
            checks.wrong(
                "cursor", f"is outside of the code: give 0 to {len(request.code)} characters"
            )
        checks.finish()
        return await self._manager.ask(request.context_id, question, time_for_answer(context))

    @unary
    async def CompleteCode(  # noqa: D102
        self, request: pb.CompleteCodeRequest, context: _Call
    ) -> pb.CompleteCodeResponse:
        question = Completion(request.code, request.cursor)
        found = await self._ask(request, question, Checks(), context)
        return pb.CompleteCodeResponse(
            matches=found.matches, cursor_start=found.cursor_start, cursor_end=found.cursor_end
        )

    @unary
    async def InspectCode(  # noqa: D102
        self, request: pb.InspectCodeRequest, context: _Call
    ) -> pb.InspectCodeResponse:
        checks = Checks()
        if request.detail_level not in (0, 1):
            checks.wrong("detail_level", "is neither 0 nor 1")
        question = Inspection(request.code, request.cursor, request.detail_level == 1)
        found = await self._ask(request, question, checks, context)
        return pb.InspectCodeResponse(
            found=bool(found.parts), parts=map(conversion.mime_part, found.parts)
        )
