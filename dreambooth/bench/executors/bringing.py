"""A bench whose machines share no disk: photos go to a storage, jobs work there, and what is finished is brought home."""

import hashlib
import io
import json
import logging
import os
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from dreambooth.bench.executors.base import Keep
from dreambooth.bench.executors.mirror import Mirror, open_url, put, tried
from dreambooth.bench.job import Event, Failed, Finished, Job, Row
from dreambooth.bench.rows import as_row
from dreambooth.core.errors import DreamboothError, redacted
from dreambooth.core.wording import written_out
from dreambooth.files.places import is_inside
from dreambooth.files.reading import Damaged

log = logging.getLogger(__name__)

AT_A_TIME = 4
"""Finished jobs that are brought home at a time, while others go on."""


@dataclass(frozen=True)
class FarRows:
    """Rows on a storage: workers put them there, whoever runs the plan again finds them. Can be sent to other machines."""

    storage: str

    def __call__(self, row: Row) -> None:
        """Put a row in its place, whole or not at all."""
        files, root = open_url(self._url(row.key))
        text = written_out(json.dumps(row.plain(), ensure_ascii=False, default=str)).encode()
        tried(self.storage, lambda: put(files, root, io.BytesIO(text), set()))

    def find(self, key: str) -> Row | None:
        """The row of a finished job."""
        files, root = open_url(self._url(key))

        def read() -> bytes | None:
            files.invalidate_cache()
            return files.cat_file(root) if files.exists(root) else None

        text = tried(self.storage, read)
        try:
            row = as_row(text) if text else None
            if row and row.key != key:
                raise Damaged("it is another job's")
            return row
        except Damaged as error:
            log.warning("%s/rows/%s.json is no row of a bench (%s); its job is done anew.", redacted(self.storage), key, error)
            return None

    def _url(self, key: str) -> str:
        return f"{self.storage.rstrip('/')}/rows/{key}.json"


@dataclass(frozen=True)
class Storage:
    """What is where on a storage: jobs/KEY, photos/DIGEST, rows/KEY.json."""

    url: str
    sent: set[str] = field(default_factory=set, compare=False, repr=False)
    """Photos that this bench has sent already: many jobs learn from the same."""

    @property
    def rows(self) -> FarRows:
        return FarRows(self.url)

    def away(self, job: Job) -> Job:
        """The job as other machines can do it; its photos are sent unless they are on a storage already."""
        photos = Path(job.photos)
        far = self._send(photos) if "://" not in job.photos and photos.is_dir() else job.photos
        return replace(job, folder=self._folder(job), photos=far, shared=f"{self.url.rstrip('/')}/shared")

    def bring(self, finished: Finished, keep: Keep | None) -> Event:
        """What a job has left, in its folder here, and its row; the storage keeps its copy."""
        job = finished.job
        try:
            Path(job.folder).mkdir(parents=True, exist_ok=True)
            Mirror(Path(job.folder), self._folder(job)).fetch()
            if keep:
                keep(finished.row)
        except (DreamboothError, OSError) as error:
            return Failed(job, f"It is finished, but could not be brought here: {error} Start the bench again to bring it.", "run")
        return finished

    def brought(self, events: Generator[Event, None, None], keep: Keep | None) -> Iterator[Event]:
        """The same events; a job is `Finished` when what it has left is here."""
        coming: list[Future[Event]] = []
        pool = ThreadPoolExecutor(AT_A_TIME)
        try:
            for event in events:
                if isinstance(event, Finished):
                    coming.append(pool.submit(self.bring, event, keep))
                else:
                    yield event
                for one in [one for one in coming if one.done() or len(coming) > 2 * AT_A_TIME]:
                    coming.remove(one)
                    yield one.result()
            yield from (one.result() for one in coming)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # stopped early: rows are on the storage, and the next start brings them
            events.close()

    def _folder(self, job: Job) -> str:
        return f"{self.url.rstrip('/')}/jobs/{job.key}"

    def _send(self, photos: Path) -> str:
        digest = hashlib.sha256()
        for path in sorted(photos.rglob("*")):
            if path.is_file() and is_inside(path, photos):
                digest.update(os.fsencode(path.relative_to(photos).as_posix()) + b"\0" + path.read_bytes())
        url = f"{self.url.rstrip('/')}/photos/{digest.hexdigest()[:16]}"
        if url not in self.sent:
            tried(url, Mirror(photos, url).send)
            self.sent.add(url)
        return url
