-- What there is of some runs, and which blobs that they name are not there.
local found = {}
for n = 2, #ARGV do
  local id = ARGV[n]
  local fields = redis.call('HMGET', key('run', id), 'n', 't', 'e', 'l', 'p')
  if fields[1] then
    local records, missing = key('records', id), {}
    local first = redis.call('XRANGE', records, '-', '+', 'COUNT', 1)[1]
    local last = redis.call('XREVRANGE', records, '+', '-', 'COUNT', 1)[1]
    for _, said in ipairs(redis.call('HVALS', key('named', id))) do
      for _, digest in ipairs(cjson.decode(said)) do
        if redis.call('EXISTS', key('blob', digest)) == 0 then missing[#missing + 1] = digest end
      end
    end
    found[#found + 1] = {
      id, fields, redis.call('HEXISTS', key('run', id), 'a'), redis.call('XLEN', records), first and first[1] or '0-0',
      last and last[1] or '0-0', missing,
    }
  end
end
return found
