"""What a submission's own webhook must be, and its secret, sealed before anything is stored."""

from dataclasses import replace

from api.errors import body_flaw
from api.submission_bodies import RuleOptions
from jobs.enqueue import Intake, NewBatch
from jobs.settings import Settings
from jobs.submissions import NewJob
from jobs.vault import Vault


def require_tls(settings: Settings, url: str, pointer: str) -> None:
    """The address has TLS, or there is a network where it needs none. Problem 422."""
    if not (url.startswith("https:") or settings.http_allow_networks):
        raise body_flaw(pointer, "https:// is needed: no network is listed that is reached without")


def require_tied_tls(settings: Settings, body: RuleOptions) -> None:
    """The same of a rule's webhook, if it has one. Problem 422."""
    if body.webhook is not None:
        require_tls(settings, str(body.webhook.url), "#/webhook/url")


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
    return job._replace(webhook=hook._replace(secret=None, sealed=hidden))
