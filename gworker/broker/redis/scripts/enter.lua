#!lua flags=allow-oom
-- KEYS: members of the process, members by process, members by identity, channels of the process,
--       leaves, what they tell
-- A member is kept as: events, length of the identity, a colon, the identity, the info. What a
-- leave tells is kept alike.
local LEAVE_MS = 3000

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function with_length(text)
  return #text .. ':' .. text
end

local function split(text)
  local length, start = string.match(text, '^(%d+):()')
  return string.sub(text, start, start + length - 1), string.sub(text, start + length)
end

-- A member is no longer held by a process. 1 if its identity is gone with it.
local function forget(channel, member, was)
  local identity, info = split(string.sub(was, 2))
  if redis.call('HINCRBY', KEYS[3], identity, -1) > 0 then
    return 0
  end
  redis.call('HDEL', KEYS[3], identity)
  if string.sub(was, 1, 1) == '1' then
    local leave = with_length(channel) .. identity
    redis.call('ZADD', KEYS[5], now() + LEAVE_MS, leave)
    redis.call('HSET', KEYS[6], leave, with_length(member) .. info)
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
-- also KEYS: members of the previous process, its channels
-- ARGV: channel, process, previous process, member, identity, info, events
local channel, process, member, identity = ARGV[1], ARGV[2], ARGV[4], ARGV[5]

-- Counted before those that it replaces are: a replaced identity has not been away.
local is_new = redis.call('HINCRBY', KEYS[3], identity, 1) == 1
local leave = with_length(channel) .. identity
if redis.call('ZREM', KEYS[5], leave) == 1 then
  redis.call('HDEL', KEYS[6], leave)
  is_new = false
end
local replaced = take(channel, process, member, KEYS[1], KEYS[4])
if replaced then
  forget(channel, member, replaced)
end
if KEYS[7] then
  local moved = take(channel, ARGV[3], member, KEYS[7], KEYS[8])
  if moved then
    forget(channel, member, moved)
  end
end
redis.call('HSET', KEYS[1], member, ARGV[7] .. with_length(identity) .. ARGV[6])
redis.call('HINCRBY', KEYS[2], process, 1)
redis.call('HSET', KEYS[4], channel, '')
return {is_new and 1 or 0, redis.call('HINCRBY', KEYS[4], '', 1)}
