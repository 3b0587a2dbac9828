#!lua flags=no-writes
-- common: time
-- KEYS: channels by the ends of their values
-- ARGV: prefix, cursor
local moment = now()
local page = redis.call('ZSCAN', KEYS[1], ARGV[2], 'COUNT', 200)
local answer = {}
for i = 1, #page[2], 2 do
  local key, ends = page[2][i], page[2][i + 1]
  if (ends == 'inf' or tonumber(ends) > moment) and string.sub(key, 1, #ARGV[1]) == ARGV[1] then
    answer[#answer + 1] = key
  end
end
return {page[1], answer}
