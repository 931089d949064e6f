-- A step of a compaction. Runs by their ids, if they have ended still; or blobs that nothing names.
if ARGV[2] == 'runs' then
  local runs, records = 0, 0
  for n = 3, #ARGV do
    local run = load(ARGV[n])
    if run and run.t ~= 'running' then
      runs, records = runs + 1, records + remove(run)
    end
  end
  return {runs, records}
end

if ARGV[2] == 'audits' then
  local ids = redis.call('ZRANGEBYSCORE', key('audited'), '-inf', '(' .. ARGV[3], 'LIMIT', 0, ARGV[4])
  for _, id in ipairs(ids) do
    local about = redis.call('HGET', key('audit', id), 'r')
    if about then redis.call('ZREM', key('auditsof', about), id) end
    redis.call('ZREM', key('audits'), id)
    redis.call('ZREM', key('audited'), id)
    redis.call('UNLINK', key('audit', id))
  end
  return {#ids}
end

local digests, blobs = redis.call('SPOP', key('unnamed'), ARGV[3]), 0
for _, digest in ipairs(digests) do
  if redis.call('HEXISTS', key('refs'), digest) == 0 then
    blobs = blobs + redis.call('UNLINK', key('blob', digest))
  end
end
return {#digests, blobs}
