"""The table of how far the sending limits of SMTP accounts are used up."""

from uuid import UUID

from sqlalchemy import Double, Integer
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.database.db import Base


class PermitCount(Base):
    """How far the sending limits of one account are used up. Made when it is first asked for; only accounts with limits have one.

    No foreign key: a question about many accounts must not fail for one that was deleted meanwhile.
    """

    __tablename__ = "smtp_pace"

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    free_at: Mapped[float] = mapped_column(
        Double
    )  # when all that was granted is paid off; seconds since 1970, by the database's clock
    day: Mapped[int] = mapped_column(Integer)  # that ``used`` is of: whole days since 1970, UTC
    used: Mapped[int] = mapped_column(Integer)  # granted on that day
    granted: Mapped[int] = mapped_column(
        Integer
    )  # by the last question; SQLite returns nothing of an UPDATE but the row's new values
