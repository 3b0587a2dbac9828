"""Rooms on Django Channels: BENCH_REDIS=URL uvicorn channels_rooms:application.

What clients say and hear stands in ../rooms.c.
"""

import os
from typing import Any

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

settings.configure(
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [os.environ["BENCH_REDIS"]]},
        }
    }
)
django.setup()


class Room(AsyncWebsocketConsumer):
    async def receive(self, text_data: str, bytes_data: None = None) -> None:
        what, group, *_ = text_data.split(" ", 2)
        if what == "#j":
            await self.channel_layer.group_add(f"room-{group}", self.channel_name)
            await self.send(f"#J {group}")
        else:
            event = {"type": "room.message", "text": text_data}
            await self.channel_layer.group_send(f"room-{group}", event)

    async def room_message(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])


application = Room.as_asgi()
