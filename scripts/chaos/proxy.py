"""A TCP proxy in front of one service that can fail the way networks do.

Owns: its listening port, the connections through it, and the weather they meet: clear, cut, blackhole, delay,
cut-reply (a connection ends after so many bytes of its replies: the request may have been done).
Does not own: when the weather changes (`faults`).
"""

import asyncio
import contextlib

PIECE = 64 * 1024


class Proxy:
    def __init__(self, upstream_port):
        self.upstream_port = upstream_port
        self.port = None
        self._passing = asyncio.Event()
        self._passing.set()
        self._cut = False
        self._delay = 0.0
        self._reply_limit = None
        self._open = set()

    async def start(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def clear(self):
        """Held-back bytes go on their way, as they do when a broken link heals."""
        self._cut, self._delay, self._reply_limit = False, 0.0, None
        self._passing.set()

    def cut(self):
        self._cut = True
        self._abort_all()

    def blackhole(self):
        self._passing.clear()

    def delay(self, milliseconds):
        self._delay = milliseconds / 1000

    def cut_replies_after(self, limit):
        self._reply_limit = limit
        for connection in self._open:
            connection.replied = 0

    def _abort_all(self):
        for connection in list(self._open):
            connection.abort()

    async def _accept(self, reader, writer):
        connection = _Connection(writer)
        self._open.add(connection)
        try:
            await self._passing.wait()
            if self._cut:
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream_port)
            connection.writers.append(up_writer)
            requests = asyncio.ensure_future(self._pump(reader, up_writer, None))
            replies = asyncio.ensure_future(self._pump(up_reader, writer, connection))
            # Either end's silence ends both: half-open connections are no use to this protocol.
            _, pending = await asyncio.wait({requests, replies}, return_when=asyncio.FIRST_COMPLETED)
            for pump in pending:
                pump.cancel()
            await asyncio.gather(requests, replies, return_exceptions=True)
        except OSError:
            pass  # no upstream: the client sees its connection end
        finally:
            connection.abort()
            self._open.discard(connection)

    async def _pump(self, reader, writer, replies_of):
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._passing.wait()
                if replies_of is not None and self._reply_limit is not None:
                    piece = piece[: self._reply_limit - replies_of.replied]
                    replies_of.replied += len(piece)
                writer.write(piece)
                await writer.drain()
                if replies_of is not None and self._reply_limit is not None and replies_of.replied >= self._reply_limit:
                    return


class _Connection:
    def __init__(self, writer):
        self.writers = [writer]
        self.replied = 0

    def abort(self):
        for writer in self.writers:
            writer.transport.abort()
