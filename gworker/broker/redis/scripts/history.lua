#!lua flags=no-writes
-- KEYS: position, entries, latest values, their order
-- ARGV: mode, epoch, offset, limit (0: all), reverse
local mode, epoch, asked = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit, is_reverse = tonumber(ARGV[4]), ARGV[5] == '1'
local position = redis.call('HMGET', KEYS[1], 'e', 'o', 'm', 'l')
if not position[1] then
  return {'', 0, epoch == '' and 1 or 0, {}}
end
local top = tonumber(position[2] or 0)
if epoch == '' then
  asked = is_reverse and top + 1 or 0
elseif epoch ~= position[1] or asked > top + (is_reverse and 1 or 0) then
  return {position[1], top, 0, {}}
end
if mode ~= position[3] then
  local is_whole = is_reverse and asked <= 1 or not is_reverse and asked >= top
  return {position[1], top, is_whole and 1 or 0, {}}
end

local entries = {}
local lost  -- the greatest offset that is needed and no longer there
local count = limit > 0 and limit + 1 or -1
if mode == 'recoverable' then
  lost = top - redis.call('XLEN', KEYS[2])
  local words = {'XRANGE', KEYS[2], string.format('%.0f-2', asked), '+'}
  if is_reverse then
    words = {'XREVRANGE', KEYS[2], string.format('%.0f-0', asked), '-'}
  end
  if count > 0 then
    words[5], words[6] = 'COUNT', count
  end
  for i, entry in ipairs(redis.call(unpack(words))) do
    entries[i] = {tonumber(string.match(entry[1], '^%d+')), entry[2][2]}
  end
else
  lost = tonumber(position[4] or 0)
  local command, from, to = 'ZRANGEBYSCORE', '(' .. string.format('%.0f', asked), '+inf'
  if is_reverse then
    command, to = 'ZREVRANGEBYSCORE', '-inf'
  end
  local flat = redis.call(command, KEYS[4], from, to, 'WITHSCORES', 'LIMIT', 0, count)
  for i = 1, #flat, 2 do
    entries[#entries + 1] = {tonumber(flat[i + 1]), redis.call('HGET', KEYS[3], flat[i])}
  end
end

local is_whole = lost <= asked
if is_reverse then
  is_whole = lost == 0 or asked <= 1
end
if limit > 0 and #entries > limit then
  entries[#entries] = nil
  is_whole = false
end
return {position[1], top, is_whole and 1 or 0, entries}
