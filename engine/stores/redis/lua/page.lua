-- Rows in the order of their submission, as many as are asked for, from the smallest index that holds all that match.
local rev, since, before, score, seen, count = ARGV[2] == '1', ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])

local index = key('all')
for n = 8, #ARGV do
  local other = P .. ':' .. ARGV[n]
  if redis.call('ZCARD', other) < redis.call('ZCARD', index) then index = other end
end

-- How many come before the last one seen, and whether it is in this index itself.
local function place()
  local rank = redis.call('ZRANK', index, seen)
  if rank then return rank, 1 end
  rank = redis.call('ZCOUNT', index, '-inf', '(' .. score)
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', index, score, score)) do
    if tonumber(string.sub(other, 1, 16)) > tonumber(string.sub(seen, 1, 16)) then break end
    rank = rank + 1
  end
  return rank, 0
end

local start = 0
if rev then
  if before ~= '' then start = redis.call('ZCOUNT', index, before, '+inf') end
  if seen ~= '' then start = math.max(start, redis.call('ZCARD', index) - (place())) end
else
  if since ~= '' then start = redis.call('ZCOUNT', index, '-inf', '(' .. since) end
  if seen ~= '' then
    local rank, itself = place()
    start = math.max(start, rank + itself)
  end
end

local rows = {}
for _, found in ipairs(redis.call(rev and 'ZREVRANGE' or 'ZRANGE', index, start, start + count - 1)) do
  local id = string.sub(found, 18)
  rows[#rows + 1] = {id, redis.call('HMGET', key('run', id), 'n', 's', 'g', 'v', 'f', 't', 'e', 'j')}
end
return rows
