#!lua flags=allow-oom
-- common: time, lengths, members
-- also KEYS: members of the previous process, its channels
-- ARGV: channel, process, previous process, member, identity, info, what tells of its leave
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
  forget(channel, replaced)
end
if KEYS[7] then
  local moved = take(channel, ARGV[3], member, KEYS[7], KEYS[8])
  if moved then
    forget(channel, moved)
  end
end
redis.call('HSET', KEYS[1], member, with_length(identity) .. with_length(ARGV[7]) .. ARGV[6])
redis.call('HINCRBY', KEYS[2], process, 1)
redis.call('HSET', KEYS[4], channel, '')
return {is_new and 1 or 0, redis.call('HINCRBY', KEYS[4], '', 1)}
