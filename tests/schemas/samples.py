"""One sample of every struct that travels or is stored, every field set to something other than its default."""

from __future__ import annotations

import msgspec

from schemas import asr, call, control, failure, llm, playout, session, tts, turn, vad

CALL = "0199aabbccdd7eeff00112233445566a"
BASE = {"call_id": CALL, "at_us": 1_795_000_000_123_456, "tenant": "clinic", "epoch": 2}
COMMAND = {"call_id": CALL, "tenant": "clinic", "reason": "barge_in"}

SAMPLES: tuple[msgspec.Struct, ...] = (
    call.CallOffered(
        **BASE, edge="edge-1", sip_call_id="a84b4c76e66710@pc33", caller="+4912345", called="bank", transport="tcp",
        codecs=("PCMU", "PCMA"),
    ),
    call.CallAnswered(
        **BASE, edge="edge-1", codec="PCMA", media_epoch_us=1_795_000_000_100_000, clock_rate_hz=8000, frame_ms=30
    ),
    call.CallHeld(**BASE, change=1, held=True, direction="recvonly"),
    call.CallTransferred(
        **BASE, target_kind="sip", accepted=False, result=call.TransferResult.REFUSED, number=2
    ),
    call.CallEnded(
        **BASE, edge="edge-1", result=call.CallResult.COMPLETED, reason="caller_hung_up", ended_by=call.EndedBy.CALLER,
        duration_ms=31_240,
        setup=call.SetupTimes(trying_ms=0.4, ringing_ms=0.5, answered_ms=1.5, acknowledged_ms=3.25),
        media=call.MediaCounts(
            packets_received=1500, packets_sent=1510, lost=3, late=2, duplicate=1, reordered=4, rejected=5,
            ssrc_changes=1, jitter_ms=1.5, pacer_late_max_ms=2.5, frames_from_agent=400, frames_dropped_stale=6,
            loss_share=0.00333, mos_in=4.25, mos_out=4.375, out_loss_share=0.0125, out_jitter_ms=2.25,
            round_trip_ms=31.5,
        ),
    ),
    call.EdgeLost(**BASE, edge="edge-1", silent_ms=15200, duration_ms=23300),
    call.DtmfIn(**BASE, press=3, digit="#", duration_ms=120, media_time_ms=4200, source="info"),
    vad.VadStarted(**BASE, media_time_ms=2100, turn=1),
    vad.VadStopped(**BASE, media_time_ms=3900, turn=1),
    asr.AsrPartial(**BASE, turn=1, revision=4, text="where is my"),
    asr.AsrPreflight(**BASE, turn=1, number=2, text="where is my card"),
    asr.AsrFinal(
        **BASE, turn=1, part=1, text="where is my card", through_sequence=211, confidence=0.75,
        words=(asr.Word(text="where", start_ms=2100, end_ms=2300, confidence=0.5),),
        speech_start_ms=2100, speech_end_ms=3900, transcription_delay_ms=512.5, engine="vosk",
    ),
    turn.TurnStarted(**BASE, turn=1, media_time_ms=2100, why="dtmf"),
    turn.TurnEnded(
        **BASE, turn=1, why="silence", text="where is my card", digits="42", confidence=0.5, speech_start_ms=2100,
        speech_end_ms=3900, transcription_delay_ms=512.5, end_of_turn_delay_ms=520.0,
    ),
    turn.TurnInterrupted(**BASE, turn=1, utterance_id=100, why="words", media_time_ms=9000, speech_start_ms=8500),
    turn.TurnResumed(
        **BASE, turn=1, utterance_id=100, media_time_ms=9900, why="backchannel", speech_start_ms=8500
    ),
    turn.TurnAway(**BASE, turn=2, number=1, last=True, media_time_ms=31_000, silent_ms=15_010),
    turn.TurnMeasured(
        **BASE, turn=1, end_of_turn_delay_ms=320.5, transcription_delay_ms=310.5, llm_node_ttft_ms=1.5,
        llm_node_ttfs_ms=2.5, tts_node_ttfb_ms=3.5, playback_latency_ms=4.5, e2e_latency_ms=380.0,
        filler_latency_ms=350.0, barge_in_ms=240.0, bus_hop_ms={"call.*.*.turn.ended": 0.5},
        queue_wait_ms={"llm": 0.25}, preemptive="hit",
    ),
    llm.LlmSentence(
        **BASE, turn=1, utterance_id=100, index=2, text="Your card was sent.", language="de",
        filler=True, away=3,
    ),
    llm.LlmDone(
        **BASE, turn=1, utterance_id=100, sentences=3, intent="card_delivery_inquiry", then=llm.NextStep.HANG_UP,
        listen_for=llm.ListenFor(state="verify", phrases=("<digit> <digit>",), digits=4), ttft_ms=1.5, ttfs_ms=2.5,
        engine="scripted", slots={"card_last_four": "4271"}, preemptive="miss", bus_hop_ms=0.5, queue_wait_ms=0.25,
    ),
    llm.ToolCalled(**BASE, turn=1, tool_call_id="1-0", name="card_status", arguments={"card_last_four": "4271"}),
    llm.ToolReturned(
        **BASE, turn=1, tool_call_id="1-0", name="card_status", result={"status": "shipped"}, error="tool_failed",
        duration_ms=3.5,
    ),
    tts.TtsStarted(
        **BASE, turn=1, utterance_id=100, index=2, ttfb_ms=1.5, leading_silence_ms=40, engine="espeak",
        bus_hop_ms=0.5, queue_wait_ms=0.25,
    ),
    tts.TtsDone(
        **BASE, turn=1, utterance_id=100, index=2, frames=60, duration_ms=1200,
        words=(tts.SpokenWord(text="Your", start_ms=40, end_ms=260),), proportional=False, text="Your",
    ),
    playout.PlayoutStarted(**BASE, utterance_id=100, media_time_ms=4500),
    playout.PlayoutMark(**BASE, utterance_id=100, index=2, media_time_ms=6500, start_ms=5300),
    playout.PlayoutPaused(
        **BASE, utterance_id=100, media_time_ms=5000, number=1, index=1, sent_ms=500, remaining_ms=1500, complete=True,
        why="barge_in",
    ),
    playout.PlayoutResumed(**BASE, utterance_id=100, media_time_ms=5900, number=1, why="limit"),
    playout.PlayoutFinished(**BASE, utterance_id=100, media_time_ms=6520, frames=100),
    playout.PlayoutFlushed(
        **BASE, utterance_id=100, media_time_ms=5000, index=1, sent_ms=500, dropped_ms=1500, why="barge_in"
    ),
    failure.Failure(
        **BASE, code="engine_timeout", stage="asr", worker="asr-1", number=1, retryable=True, caller_hears="an apology",
        detail="no final in 3000 ms", turn=1, gap_ms=3000,
    ),
    control.Flush(**COMMAND, utterance_id=100),
    control.Pause(**COMMAND, utterance_id=100, limit_ms=4000),
    control.Resume(**COMMAND, utterance_id=100),
    control.Say(**COMMAND, text="One moment.", utterance_id=199),
    control.Hangup(**COMMAND),
    control.GiveUp(**COMMAND),
    control.Transfer(**COMMAND, target="sip:desk@bank"),
    control.SendDtmf(**COMMAND, digits="42#"),
    control.Inject(**COMMAND, text="The caller is a customer."),
    control.ReplayRequest(**COMMAND, from_sequence=212, reply_to="_INBOX.1"),
    control.ReplayReply(first_sequence=212, next_sequence=250),
    control.ControlReply(ok=False, error="not_owner", message="asr-2 owns the call"),
    session.CallSession(
        session_id=CALL, tenant="clinic", caller_phone="+4912345", sip_call_id="a84b4c76e66710@pc33",
        call_start_us=1, call_end_us=2, status=session.SessionStatus.COMPLETED,
        ai_provider_config={"asr": "vosk"}, created_at_us=1,
    ),
    session.ConversationContext(
        context_id=CALL, session_id=CALL, tenant="clinic",
        conversation_history=(
            session.Exchange(speaker=session.Speaker.AGENT, text="Welcome", turn=1, at_us=5, interrupted=True),
        ),
        current_intent="card_delivery_inquiry", customer_data={"name": "A"}, dialogue_state="verify",
        slots={"card_last_four": "4271"}, last_turn=1, last_updated_us=6, expires_at_us=7,
    ),
    session.Owner(stage=session.Stage.ASR, call_id=CALL, worker="asr-1", epoch=2, tenant="clinic", since_us=3),
    session.WorkerRecord(
        stage=session.Stage.ASR, worker="asr-1", calls=3, slots=50, draining=True, engine="vosk", host="h",
        process_id=42, started_us=1, at_us=2, figures={"loop_lag_ms": 0.5},
    ),
    session.TenantSettings(tenant="clinic", max_calls=10, agent="bank"),
)  # fmt: skip
