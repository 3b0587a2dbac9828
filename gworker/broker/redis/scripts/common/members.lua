-- KEYS: members of the process, members by process, members by identity, channels of the process,
--       leaves, what tells of them
-- A member is kept as: identity, what tells of its leave ('': nothing), info.
local LEAVE_MS = 3000

-- A member is no longer held by a process. 1 if its identity is gone with it.
local function forget(channel, was)
  local identity, rest = split(was)
  if redis.call('HINCRBY', KEYS[3], identity, -1) > 0 then
    return 0
  end
  redis.call('HDEL', KEYS[3], identity)
  local text = split(rest)
  if text ~= '' then
    local leave = with_length(channel) .. identity
    redis.call('ZADD', KEYS[5], now() + LEAVE_MS, leave)
    redis.call('HSET', KEYS[6], leave, text)
  end
  return 1
end

-- Take a member out of what a process holds. What was kept of it, or false.
local function take(channel, process, member, held_key, channels_key)
  local was = redis.call('HGET', held_key, member)
  if was then
    redis.call('HDEL', held_key, member)
    if redis.call('HINCRBY', KEYS[2], process, -1) <= 0 then
      redis.call('HDEL', KEYS[2], process)
      redis.call('HDEL', channels_key, channel)
    end
  end
  return was
end
