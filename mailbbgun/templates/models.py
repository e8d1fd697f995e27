"""The tables of templates and of their versions."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, ForeignKey, Index, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from mailbbgun.core.ids import new_id
from mailbbgun.database.db import Base, Owned, UTCDateTime


class Template(Owned, Base):
    """A template: a name for the version that is active."""

    __tablename__ = "templates"
    __table_args__ = (Index("uq_templates_tenant_id_test_name", "tenant_id", "test", "name", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    #: Whether a test key made it. Test keys see only such rows, and have names of their own.
    test: Mapped[bool] = mapped_column(server_default=false())
    name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str | None] = mapped_column(Text)
    #: The number of its active version.
    active: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime())


class TemplateVersion(Owned, Base):
    """The texts of a template at one time. A row is never changed."""

    __tablename__ = "template_versions"
    __table_args__ = (Index("uq_template_versions_template_id_number", "template_id", "number", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    test: Mapped[bool] = mapped_column(server_default=false())
    template_id: Mapped[UUID] = mapped_column(ForeignKey("templates.id", ondelete="CASCADE"))
    #: 1, 2, 3 … within its template.
    number: Mapped[int]
    #: Locale → its ``subject``, ``text``, ``html`` and ``text_made``. The locale "" is the default.
    texts: Mapped[dict[str, dict[str, Any]]] = mapped_column(JSON)
    #: The names of the variables that they use.
    variables: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime())
