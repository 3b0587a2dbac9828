-- Texts one behind the other: each but the last with its length and a colon before it.
local function with_length(text)
  return #text .. ':' .. text
end

local function split(text)
  local length, start = string.match(text, '^(%d+):()')
  return string.sub(text, start, start + length - 1), string.sub(text, start + length)
end
