"""The table of Slack accounts."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime, encrypted


class SlackAccount(Owned, Base):
    """A bot in a workspace, or an incoming webhook of one. It has exactly one of the two secrets."""

    __tablename__ = "slack_accounts"
    __table_args__ = (Index("uq_slack_accounts_tenant_id_name", "tenant_id", "name", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(64))
    bot_token: Mapped[str | None] = mapped_column(Text, info=encrypted(named_by="name"))
    webhook_url: Mapped[str | None] = mapped_column(Text, info=encrypted(named_by="name"))
    secret_shown: Mapped[str] = mapped_column(String(64))  # what people may see of the secret: xoxb-…1a2b
    default_channel: Mapped[str | None] = mapped_column(Text)
    is_default: Mapped[bool]  # messages that name no account go through it
    enabled: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime())

    @property
    def kind(self) -> str:
        """``bot`` or ``webhook``."""
        return "bot" if self.bot_token is not None else "webhook"
