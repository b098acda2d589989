"""What the webhook of a job or a rule must be, and its secret, sealed before it is stored."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from api.errors import body_flaw
from api.submission_bodies import RuleOptions
from jobs.enqueue import Intake, NewBatch
from jobs.settings import Settings
from jobs.submissions import Hook, NewJob
from jobs.vault import Vault


def require_tls(settings: Settings, url: str, pointer: str) -> None:
    """The address has TLS, or there is a network where it needs none. Problem 422."""
    if not (url.startswith("https:") or settings.http_allow_networks):
        raise body_flaw(pointer, "https:// is needed: no network is listed that is reached without")


def require_tied_tls(settings: Settings, body: RuleOptions) -> None:
    """The same of a rule's webhook, if it has one. Problem 422."""
    if body.webhook is not None:
        require_tls(settings, str(body.webhook.url), "#/webhook/url")


def sealed_tie(vault: Vault, body: RuleOptions, rule_id: UUID) -> dict[str, Any]:
    """The secret as the rule keeps it, where the body says anything of it. SecretKeyMissing.

    `sealed`, as a field of what is asked for: null where there is to be none. In a change a webhook
    that says nothing of a secret keeps the one that there is.
    """
    if "webhook" not in body.model_fields_set:
        return {}
    hook = body.webhook
    if hook is not None and "secret" not in hook.model_fields_set:
        return {}
    secret = hook and hook.secret
    return {"sealed": secret and vault.seal(secret.get_secret_value(), rule_id)}


def sealed(vault: Vault, settings: Settings, intake: Intake) -> Intake:
    """The intake with the secrets of its webhooks sealed. SecretKeyMissing; Problem 422."""
    callbacks = intake.batch.callbacks if intake.batch else []
    if all(job.webhook is None for job in (*intake.jobs, *callbacks)):
        return intake
    jobs = [_sealed(vault, settings, job) for job in intake.jobs]
    batch = _sealed_batch(vault, settings, intake.batch) if intake.batch else None
    return replace(intake, jobs=jobs, batch=batch)


def _sealed_batch(vault: Vault, settings: Settings, batch: NewBatch) -> NewBatch:
    complete, success = batch.on_complete, batch.on_success
    return replace(
        batch,
        on_complete=complete and _sealed(vault, settings, complete),
        on_success=success and _sealed(vault, settings, success),
    )


def _sealed(vault: Vault, settings: Settings, job: NewJob) -> NewJob:
    hook = job.webhook
    if hook is None:
        return job
    require_tls(settings, hook.url, f"{job.pointer}/webhook/url")
    if hook.secret is None:
        return job
    hidden = vault.seal(hook.secret, job.id)
    return job._replace(webhook=Hook(hook.url, None, hidden, job.id))
