"""Open the Generative AI 101 Studio, or check it with ``python app.py doctor``. Works unchanged as a Space."""

from __future__ import annotations

import logging
import os
import signal
import sys

from pipelines.errors import StudioError
from studio import settings


def main(argv: list[str]) -> int:
    try:
        chosen, command = settings.parse(argv)
        # Before Gradio or a hub library is imported: they read these once.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        if not chosen.may_download:
            os.environ["HF_HUB_OFFLINE"] = "1"
        if command == "doctor":
            from studio import doctor

            return doctor.run(chosen)
        from studio import shell
        from studio.runtime import Studio

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("httpx").setLevel(logging.WARNING)
        studio = Studio(chosen)
        page = shell.build(studio)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        shell.serve(studio, page)
    except StudioError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Closed.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
