"""The page in English."""

from __future__ import annotations

from serve.ui.texts.words import Texts

EN = Texts(
    # the house and its assistants
    tagline="A house of assistants, each with a craft of its own",
    choose="Who would you like to talk to?",
    all_assistants="All assistants",
    states={
        "ready": "ready",
        "starting": "loading",
        "stopped": "asleep",
        "draining": "stopping",
        "failed": "unavailable",
        "gone": "out of reach",
    },
    house_gone="The gateway cannot be reached just now. This page keeps trying and will recover by "
    "itself.",
    house_locked="The gateway does not accept this page's key; please tell whoever runs it "
    "(HANLIN_KEY).",
    house_empty="The gateway has no assistants yet.",
    unknown="There is no assistant called “{name}” here; please choose one from the list.",
    stands_alone="Each message stands alone: it does not remember earlier ones.",
    remembers="It remembers this conversation.",
    views_label="Pages",
    chat_view="Chat",
    pair_view="Compare",
    status_view="Status",
    other_language="中文",
    theme="Light / dark",
    leave="Sign out",
    # a conversation
    examples="Try one of these",
    message="Your message",
    placeholder="Write something…",
    typed_placeholder="Write your words; the choices above add the rest",
    preview="What is sent: ",
    send="Send",
    stop="Stop",
    clear="New conversation",
    copy="Copy",
    surprise="Surprise me",
    keys="Enter sends · Shift+Enter breaks the line · Esc stops",
    conversation="Conversation",
    own_value=" (or your own)",
    # what can become of an answer
    loading="Its engine is loading ({seconds} s so far); the answer comes as soon as it is ready.",
    loading_usual="Its engine is loading ({seconds} s so far, {usual} s the last time); the answer "
    "comes as soon as it is ready.",
    thinking="No word from it yet ({seconds} s).",
    gave_up="Its engine was not ready after {seconds} s. Please press Retry in a while.",
    gone="The gateway cannot be reached, so this message was not delivered. Please try again "
    "shortly.",
    locked="The gateway does not accept this page's key, so this message was not delivered. Please "
    "tell whoever runs it.",
    too_long="This is more than it can read at once. Please send something shorter.",
    broke_off="The answer broke off in the middle. Please press Retry.",
    unknown_model="The gateway no longer knows this assistant; please choose another.",
    busy="Too many people are asking at once. Please try again in a moment.",
    slow="No answer came in time. Please try again.",
    refused="This message was not accepted: {reason}",
    failed="Its engine cannot answer now: {reason}",
    empty="It said nothing. Try putting it another way.",
    cut_short="(cut off here: the answer reached its length limit)",
    stopped="(stopped)",
    # the drawer of settings
    settings="Settings",
    close="Close",
    temperature="Temperature",
    temperature_info="Low is steady, high is surprising",
    top_p="Top p",
    top_p_info="Choose among the likeliest words only",
    max_tokens="Longest answer (tokens)",
    max_tokens_info="At most {most} here",
    max_tokens_own="The engine sets the limit",
    system="System prompt",
    system_replace="It is told this before everything else; you may rewrite it.",
    system_append="You may add words of your own below.",
    system_refuse="It is told this before everything else; it cannot be changed.",
    system_none="This assistant has no system prompt.",
    system_more="Added to it",
    reset="Back to its own",
    # praise and blame
    feedback_on="Your thumbs are kept on this server, together with the conversation, to improve "
    "the assistant.",
    word="Why? (optional)",
    word_placeholder_up="What was good about it?",
    word_placeholder_down="What was wrong with it?",
    word_send="Save",
    kept="Noted, thank you.",
    not_kept="It could not be saved; please tell whoever runs this.",
    # two side by side
    pair_title="One prompt, two assistants",
    pair_about="The same words go to both at once: see which answers better, and faster.",
    left="Left",
    right="Right",
    first_token="First token",
    speed="Speed",
    tokens="Tokens",
    per_second="tok/s",
    in_out="{tokens_in} in · {tokens_out} out",
    same="Same sampling",
    # the state of the house
    status_title="How things are",
    status_about="From the gateway's /metrics: the last {minutes} minutes, every {seconds} "
    "seconds.",
    status_none="The gateway's /metrics cannot be read just now; the charts stand where they were "
    "last read.",
    assistant="Assistant",
    state="State",
    replicas="Replicas",
    in_flight="Running",
    queue="Waiting",
    tokens_now="Tokens/s",
    first_now="First token",
    errors_now="Failed · refused",
    tokens_chart="Tokens per second",
    first_chart="Time to first token (s)",
    errors_chart="Failed or refused per minute",
    time="Time",
    # the way in
    not_let_in="Please come in through the sign-in page.",
)
