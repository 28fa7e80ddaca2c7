"""Doing a fault and undoing it.

Owns: one function per kind of `plan.KINDS`; each returns when the fault is over: the killed process is started
again, the service answers again, the network is clear.
Does not own: which and when (`plan`), what becomes of the job (`watch`).
"""

import asyncio
import signal
import time

from plan import EVERYBODY, INSTANCES

GUEST = "c"


class Faults:
    def __init__(self, instances, services, grow_topic):
        self.instances = {instance.name: instance for instance in instances}
        self.services = services
        self.grow_topic = grow_topic

    async def play(self, round_):
        """Both faults of a round; the moment when the last of them was over."""
        if round_.second is None:
            return await self._one(round_.first, alone=True)
        if round_.during_recovery:
            await self._one(round_.first, alone=True)
            return await self._one(round_.second, alone=False)
        delayed = self._after(round_.first.wait, round_.second)
        return max(await asyncio.gather(self._one(round_.first, alone=False), delayed))

    async def _after(self, seconds, fault):
        await asyncio.sleep(seconds)
        return await self._one(fault, alone=False)

    async def _one(self, fault, alone):
        await asyncio.sleep(fault.wait)
        await getattr(self, "_" + fault.kind.replace("-", "_"))(fault, alone)
        return time.monotonic()

    # ------------------------------------------------------------ instances

    async def _kill(self, fault, _):
        await self._down_and_up(fault.hold, self.instances[fault.victim])

    async def _kill_all(self, fault, _):
        await self._down_and_up(fault.hold, *self.instances.values())

    async def _kill_starting(self, fault, _):
        instance = self.instances[fault.victim]
        await self._down_and_up(0, instance)
        await asyncio.sleep(fault.hold)
        await self._down_and_up(0, instance)

    @staticmethod
    async def _down_and_up(hold, *instances):
        await asyncio.gather(*(instance.kill() for instance in instances))
        await asyncio.sleep(hold)
        for instance in instances:
            await instance.start()

    async def _terminate(self, fault, alone):
        instance = self.instances[fault.victim]
        await instance.terminate(outage=not alone)
        await asyncio.sleep(fault.hold)
        await instance.start()

    async def _pause(self, fault, _):
        instance = self.instances[fault.victim]
        await self._stopped(instance.signal, fault.hold)

    _pause_past_session = _pause

    @staticmethod
    async def _stopped(send, hold):
        send(signal.SIGSTOP)
        try:
            await asyncio.sleep(hold)
        finally:
            send(signal.SIGCONT)

    async def _join(self, fault, alone):
        guest = self.instances[GUEST]
        guest.wanted = True
        await guest.start()
        await asyncio.sleep(fault.hold)
        guest.wanted = False
        await guest.terminate(outage=not alone)

    # ------------------------------------------------------------ services

    async def _mongo_kill(self, fault, _):
        await self._service_down(self.services["mongo"], fault.hold, kill=True)

    async def _mongo_restart(self, fault, _):
        await self._service_down(self.services["mongo"], fault.hold, kill=False)

    async def _broker_kill(self, fault, _):
        await self._service_down(self.services["kafka"], fault.hold, kill=True)

    async def _broker_restart(self, fault, _):
        await self._service_down(self.services["kafka"], fault.hold, kill=False)

    @staticmethod
    async def _service_down(service, hold, kill):
        async with service.lock:
            await service.down(kill)
            await asyncio.sleep(hold)
            await service.up()

    async def _mongo_pause(self, fault, _):
        await self._service_pause(self.services["mongo"], fault.hold)

    async def _broker_pause(self, fault, _):
        await self._service_pause(self.services["kafka"], fault.hold)

    async def _service_pause(self, service, hold):
        async with service.lock:
            await self._stopped(service.signal, hold)

    async def _add_partition(self, fault, _):
        async with self.services["kafka"].lock:
            await self.grow_topic(fault.victim)

    # ------------------------------------------------------------ the network to mongod

    async def _net_cut(self, fault, _):
        await self._weather(fault, lambda proxy: proxy.cut())

    async def _net_blackhole(self, fault, _):
        await self._weather(fault, lambda proxy: proxy.blackhole())

    async def _net_delay(self, fault, _):
        await self._weather(fault, lambda proxy: proxy.delay(fault.amount))

    async def _net_cut_reply(self, fault, _):
        await self._weather(fault, lambda proxy: proxy.cut_replies_after(fault.amount))

    async def _weather(self, fault, change):
        names = INSTANCES if fault.victim == EVERYBODY else (fault.victim,)
        proxies = [self.instances[name].proxy for name in names]
        for proxy in proxies:
            change(proxy)
        try:
            await asyncio.sleep(fault.hold)
        finally:
            for proxy in proxies:
                proxy.clear()
