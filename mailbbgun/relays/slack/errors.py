"""What Slack's errors mean for a message. Pure.

Slack answers most failures with 200 and ``{"ok": false, "error": "channel_not_found"}``, and an
incoming webhook with 4xx and such a name as text. The table has every error that Slack documents for
``chat.postMessage`` and for incoming webhooks. A name that is not in it is temporary: the message is
tried again, so an error that is new today loses nothing.
"""

from collections.abc import Mapping
from enum import Enum


class SlackVerdict(Enum):
    """What an error is about."""

    LATER = "temporary: the message is tried again"
    NEVER = "permanent: the message or the channel is wrong"
    ACCOUNT = "the account is wrong: it is paused, and its messages wait"


_LATER = (
    *("accesslimited", "fatal_error", "internal_error", "message_limit_exceeded", "org_login_required"),
    *("rate_limited", "ratelimited", "request_timeout", "rollup_error", "service_unavailable"),
    *("team_added_to_org", "team_not_found", "timeout", "workflow_queue_full"),
)
_ACCOUNT = (
    *("access_denied", "account_inactive", "ekm_access_denied", "enterprise_is_restricted", "invalid_auth"),
    *("invalid_token", "missing_scope", "no_active_hooks", "no_service", "no_service_id", "no_team"),
    *("not_allowed_token_type", "not_authed", "team_access_not_granted", "team_disabled", "token_expired"),
    *("token_revoked", "two_factor_setup_required"),
)
_NEVER = (
    *("action_prohibited", "as_user_not_supported", "attachment_payload_limit_exceeded", "blocks_not_allowed"),
    *("cannot_reply_to_message", "channel_is_archived", "channel_not_found", "channel_type_not_supported"),
    *("deprecated_endpoint", "duplicate_channel_not_found", "duplicate_message_not_found", "external_team_not_found"),
    *("invalid_arg_name", "invalid_arguments", "invalid_array_arg", "invalid_attachments", "invalid_blocks"),
    *("invalid_blocks_format", "invalid_channel", "invalid_charset", "invalid_form_data", "invalid_json"),
    *(
        "invalid_metadata_format",
        "invalid_metadata_schema",
        "invalid_payload",
        "invalid_post_type",
        "invalid_thread_ts",
    ),
    *("is_archived", "is_inactive", "json_not_object", "markdown_text_conflict", "messages_tab_disabled"),
    *(
        "metadata_must_be_sent_from_app",
        "metadata_too_large",
        "method_deprecated",
        "method_not_supported_for_channel_type",
    ),
    *("missing_charset", "missing_file_data", "missing_post_type", "msg_blocks_too_long", "msg_too_long"),
    *("no_dual_broadcast_content_update", "no_permission", "no_text", "not_in_channel"),
    *("posting_to_channel_denied", "posting_to_general_channel_denied", "restricted_action"),
    *("restricted_action_non_threadable_channel", "restricted_action_read_only_channel"),
    *("restricted_action_thread_locked", "restricted_action_thread_only_channel"),
    *("slack_connect_blocked_file_type", "slack_connect_canvas_sharing_blocked", "slack_connect_clip_sharing_blocked"),
    *("slack_connect_file_link_sharing_blocked", "slack_connect_file_upload_sharing_blocked"),
    *("slack_connect_lists_sharing_blocked", "thread_locked", "thread_not_found", "too_many_attachments"),
    *("too_many_contact_cards", "unknown_method", "user_not_found", "user_not_in_channel"),
)

#: The verdict on each error that Slack documents.
VERDICTS: Mapping[str, SlackVerdict] = {
    **dict.fromkeys(_LATER, SlackVerdict.LATER),
    **dict.fromkeys(_ACCOUNT, SlackVerdict.ACCOUNT),
    **dict.fromkeys(_NEVER, SlackVerdict.NEVER),
}

#: What a person does about the errors that are common, in addition to Slack's name.
_ADVICE: Mapping[str, str] = {
    "channel_not_found": "there is no such channel, or it is private and the app is not in it",
    "not_in_channel": "invite the app to the channel (/invite), or give it the scope chat:write.public",
    "is_archived": "the channel is archived",
    "channel_is_archived": "the channel is archived",
    "invalid_auth": "give the account another token",
    "token_revoked": "the app was removed from the workspace, or its token was revoked",
    "token_expired": "give the account another token",
    "account_inactive": "the workspace, or the app's user in it, was deleted",
    "missing_scope": "the app needs the scope chat:write",
    "no_service": "the incoming webhook was removed",
    "invalid_token": "the incoming webhook was removed, or its URL is mistyped",
    "no_active_hooks": "incoming webhooks are switched off in the workspace",
    "no_permission": "the app may not post there",
    "invalid_blocks": "Slack does not understand the blocks",
    "msg_blocks_too_long": "the blocks are too long together",
    "msg_too_long": "the text is too long",
}


def verdict(error: str) -> SlackVerdict:
    """Return the verdict on an error of Slack; an unknown one is temporary."""
    return VERDICTS.get(error, SlackVerdict.LATER)


def told(error: str) -> str:
    """Return an error for people: Slack's name, and what to do if we know."""
    return f"{error}: {advice}" if (advice := _ADVICE.get(error)) else error
