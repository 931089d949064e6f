-- Apply writes, all or none. A script that fails half way is not undone: so whatever can be refused is refused first.
local at = 3

local function next_word()
  local word = ARGV[at]
  at = at + 1
  return word
end

local function next_words(width)
  local words = {}
  for n = 1, tonumber(next_word()) * (width or 1) do words[n] = next_word() end
  return words
end

-- What a place names: triples of a digest, whether the blob is given, and the blob.
local function name(id, place, names)
  if #names == 0 then return end
  local digests, seen = {}, {}
  for n = 1, #names, 3 do
    local digest = names[n]
    if not seen[digest] then
      seen[digest] = true
      digests[#digests + 1] = digest
      redis.call('HINCRBY', key('refs'), digest, 1)
      redis.call('SREM', key('unnamed'), digest)
    end
    if names[n + 1] == '1' then redis.call('SETNX', key('blob', digest), names[n + 2]) end
  end
  redis.call('HSET', key('named', id), place, cjson.encode(digests))
end

local changed = {}

local apply = {}

function apply.admit(w)
  if load(w.id) then return end
  local run = {
    id = w.id, n = redis.call('HINCRBY', key('meta'), 'n', 1), s = w.s, g = w.g, v = w.v, t = w.t, e = w.e, last = 0,
    k = w.k, x = #w.tags > 0 and cjson.encode(w.tags) or '[]',
  }
  redis.call('HSET', key('run', w.id), 'n', run.n, 's', w.s, 'g', w.g, 'v', w.v, 'f', w.f, 't', w.t, 'e', w.e,
    'j', w.j, 'a', w.data, 'l', 0, 'x', run.x)
  if w.k then
    redis.call('HSET', key('run', w.id), 'k', w.k)
    redis.call('HSET', key('keys'), w.k, w.id)
  end
  redis.call('ZADD', key('all'), w.s, member(run))
  redis.call('ZADD', key('graph', w.g), w.s, member(run))
  for _, tag in ipairs(w.tags) do redis.call('ZADD', key('tag', tag), w.s, member(run)) end
  redis.call('SADD', key('graphs'), w.g)
  index_status(run)
  loaded[w.id] = run
  name(w.id, '0', w.names)
end

function apply.append(w)
  local run = load(w.id)
  if not run or w.seq <= run.last then return end
  redis.call('XADD', key('records', w.id), w.place .. '-0', 'd', w.data)
  run.last = w.seq
  changed[w.id] = run
  name(w.id, w.place, w.names)
end

function apply.status(w)
  local run = load(w.id)
  if not run then return end
  unindex_status(run)
  run.t, run.e = w.t, w.e
  index_status(run)
  redis.call('HSET', key('run', w.id), 't', w.t, 'e', w.e)
end

function apply.snapshot(w)
  local run = load(w.id)
  if not run then return end
  if not run.snapshot or w.seq > run.snapshot then
    unname(w.id, 's')
    name(w.id, 's', w.names)
    redis.call('HSET', key('run', w.id), 'p', w.place, 'd', w.data)
    run.snapshot = w.seq
  end
  if w.drop < 1 then return end
  redis.call('XTRIM', key('records', w.id), 'MINID', w.kept .. '-0')
  for _, place in ipairs(redis.call('HKEYS', key('named', w.id))) do
    local seq = tonumber(place)
    if seq and seq >= 1 and seq <= w.drop then unname(w.id, place) end
  end
end

function apply.post(w)
  if not load(w.id) or redis.call('ZSCORE', key('inbox', w.id), w.signal) then return end
  redis.call('ZADD', key('inbox', w.id), redis.call('HINCRBY', key('meta'), 'p', 1), w.signal)
  redis.call('HSET', key('letters', w.id), w.signal, w.data)
end

function apply.collect(w)
  for _, signal in ipairs(w.signals) do
    redis.call('ZREM', key('inbox', w.id), signal)
    redis.call('HDEL', key('letters', w.id), signal)
  end
end

function apply.define(w)
  redis.call('HSET', key('definitions'), w.name, w.text)
end

function apply.rebase(w)
  local run = load(w.id)
  if not run then return end
  unindex_status(run)
  run.v = w.v
  index_status(run)
  redis.call('HSET', key('run', w.id), 'v', w.v, 'f', w.f)
end

function apply.forget(w)
  local run = load(w.id)
  if not run then return end
  changed[w.id] = nil
  remove(run)
end

function apply.audit(w)
  if redis.call('EXISTS', key('audit', w.id)) == 1 then return end
  local n = redis.call('HINCRBY', key('meta'), 'l', 1)
  redis.call('HSET', key('audit', w.id), 'n', n, 'a', w.at, 'd', w.data)
  redis.call('ZADD', key('audits'), n, w.id)
  redis.call('ZADD', key('audited'), w.at, w.id)
  if w.run then
    redis.call('HSET', key('audit', w.id), 'r', w.run)
    redis.call('ZADD', key('auditsof', w.run), n, w.id)
  end
end

local read = {}

function read.admit()
  local w = {
    id = next_word(), s = next_word(), g = next_word(), v = next_word(), f = next_word(), t = next_word(),
    e = next_word(), j = next_word(), data = next_word(),
  }
  w.k = next_words()[1]
  w.tags = next_words()
  w.names = next_words(3)
  return w
end

function read.append()
  local w = {id = next_word(), place = next_word(), data = next_word(), names = next_words(3)}
  w.seq = tonumber(w.place)
  return w
end

function read.status() return {id = next_word(), t = next_word(), e = next_word()} end

function read.snapshot()
  local w = {
    id = next_word(), place = next_word(), data = next_word(), drop = tonumber(next_word()), kept = next_word(),
    names = next_words(3),
  }
  w.seq = tonumber(w.place)
  return w
end

function read.post() return {id = next_word(), signal = next_word(), data = next_word()} end
function read.collect() return {id = next_word(), signals = next_words()} end
function read.define() return {name = next_word(), text = next_word()} end
function read.rebase() return {id = next_word(), v = next_word(), f = next_word()} end
function read.forget() return {id = next_word()} end
function read.audit() return {id = next_word(), at = next_word(), run = next_words()[1], data = next_word()} end

local writes = {}
while at <= #ARGV do
  local kind = next_word()
  writes[#writes + 1] = {kind, read[kind]()}
end

-- Who will have which key. What is not in here yet is as it is stored; false is nobody.
local owners, keys_of = {}, {}

local function key_of(id)
  if keys_of[id] == nil then
    local run = load(id)
    keys_of[id] = run and {run.k} or false
  end
  return keys_of[id]
end

local function owner_of(k)
  if owners[k] == nil then owners[k] = redis.call('HGET', key('keys'), k) end
  return owners[k]
end

for _, pair in ipairs(writes) do
  local kind, w = pair[1], pair[2]
  if kind == 'forget' and key_of(w.id) then
    local k = key_of(w.id)[1]
    if k then owners[k] = false end
    keys_of[w.id] = false
  elseif kind == 'admit' and not key_of(w.id) then
    if w.k then
      if owner_of(w.k) then return {w.k, owner_of(w.k)} end
      owners[w.k] = w.id
    end
    keys_of[w.id] = {w.k}
  end
end

-- With sync there is something to wait for, even if all that is written was there.
if ARGV[2] == '1' then redis.call('HINCRBY', key('meta'), 'synced', 1) end
for _, pair in ipairs(writes) do apply[pair[1]](pair[2]) end
for id, run in pairs(changed) do redis.call('HSET', key('run', id), 'l', string.format('%d', run.last)) end
return {}
