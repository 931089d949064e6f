-- What every script begins with. ARGV[1] is the prefix of all keys; each key is prefix:kind:name, whatever the name.
--
--   meta             hash     how many runs, signals and lines of the audit log there were (n, p, l), commits with sync
--                             (synced), the version of this
--   run:ID           hash     number n, submitted s, graph g, version v, fingerprint f, status t, ended e ('' if not),
--                             the rest of its row as JSON j, admission a, last record l, snapshot p with its data d,
--                             key k, indexes of its tags x
--   records:ID       stream   by number
--   inbox:ID         zset     ids of signals, in order; letters:ID is a hash of their data
--   named:ID         hash     what digests a place (record, or 's' for the snapshot) names, as JSON
--   all, graph:G, status:S, tag:T     zsets, by submission, of members NUMBER:ID
--   open:GV          zset     ids of runs that have not ended, by number
--   ended:G          zset     members by the end of the run; graphs is the set of these graphs
--   keys             hash     who has an idempotency key
--   blob:D           string   refs is a hash: how many places name it; unnamed is the set of those that none names
--   definitions      hash
--   audit:ID         hash     a line of the audit log: number n, time a, data d, the run it is about r
--   audits, auditsof:RUN      zsets, by number, of ids of lines; audited is one by time
local P = ARGV[1]

local function key(kind, name)
  return P .. ':' .. kind .. ':' .. (name or '')
end

local function of_version(graph, version)
  return key('open', #graph .. ':' .. graph .. version)
end

local function member(run)
  return string.format('%016d:', run.n) .. run.id
end

-- A run as the script knows it: what it reads once, it keeps up to date.
local loaded = {}

local function load(id)
  local run = loaded[id]
  if run == nil then
    local f = redis.call('HMGET', key('run', id), 'n', 's', 'g', 'v', 't', 'e', 'l', 'p', 'k', 'x')
    run = f[1] and {
      id = id, n = f[1], s = f[2], g = f[3], v = f[4], t = f[5], e = f[6], last = tonumber(f[7]),
      snapshot = f[8] and tonumber(f[8]), k = f[9], x = f[10],
    } or false
    loaded[id] = run
  end
  return run
end

local function unname(id, place)
  local said = redis.call('HGET', key('named', id), place)
  if not said then return end
  for _, digest in ipairs(cjson.decode(said)) do
    if redis.call('HINCRBY', key('refs'), digest, -1) <= 0 then
      redis.call('HDEL', key('refs'), digest)
      redis.call('SADD', key('unnamed'), digest)
    end
  end
  redis.call('HDEL', key('named', id), place)
end

-- Into the indexes that depend on its status, or out of them.
local function index_status(run)
  redis.call('ZADD', key('status', run.t), run.s, member(run))
  if run.t == 'running' then
    redis.call('ZADD', of_version(run.g, run.v), run.n, run.id)
  elseif run.e ~= '' then
    redis.call('ZADD', key('ended', run.g), run.e, member(run))
  end
end

local function unindex_status(run)
  redis.call('ZREM', key('status', run.t), member(run))
  redis.call('ZREM', of_version(run.g, run.v), run.id)
  redis.call('ZREM', key('ended', run.g), member(run))
end

-- Remove a run and all that is its own; how many records it had.
local function remove(run)
  unindex_status(run)
  redis.call('ZREM', key('all'), member(run))
  redis.call('ZREM', key('graph', run.g), member(run))
  for _, tag in ipairs(cjson.decode(run.x)) do
    redis.call('ZREM', key('tag', tag), member(run))
  end
  if run.k then redis.call('HDEL', key('keys'), run.k) end
  for _, place in ipairs(redis.call('HKEYS', key('named', run.id))) do
    unname(run.id, place)
  end
  local count = redis.call('XLEN', key('records', run.id))
  for _, kind in ipairs({'run', 'records', 'inbox', 'letters', 'named'}) do
    redis.call('UNLINK', key(kind, run.id))
  end
  loaded[run.id] = false
  return count
end
