-- Takes requests of one tenant in advance, within all of its rates or not at all.
--
-- KEYS[1]  the tenant's
-- ARGV     requests wanted; then amount and burst of the rates by second, minute and hour, amount 0
--          for none; then, in tests only, the time in microseconds
-- returns  requests granted; microseconds until one more is, 0 if it is now, and the number of the
--          rate that says so; then of each rate what is left and the microseconds until all of it is
--
-- A rate is what is owed: requests that have not come back yet, times the microseconds of the
-- period. Each microsecond takes the rate's amount off it.

local periods = {1000000, 60000000, 3600000000}
-- Beyond it numbers here are no longer whole ones.
local most = 9000000000000000

local now = tonumber(ARGV[8])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- What somebody else has put there is overwritten.
local kept = redis.pcall('GET', KEYS[1])
local at, owed = now, {0, 0, 0}
if type(kept) == 'string' then
  local t, s, m, h = string.match(kept, '^(%d+) (%d+) (%d+) (%d+)$')
  if t then
    at, owed = tonumber(t), {tonumber(s), tonumber(m), tonumber(h)}
  end
end
-- A clock that was set back gives nothing back, and makes nobody wait for it.
local passed = math.max(0, now - at)

local amounts, bursts = {}, {}

-- Rounded, where numbers are too large to be whole, to what is less.
local function free(i)
  return math.max(0, bursts[i] - math.ceil(owed[i] / periods[i]))
end

local granted = tonumber(ARGV[1])
for i = 1, 3 do
  amounts[i], bursts[i] = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  if amounts[i] > 0 then
    owed[i] = math.min(math.max(0, owed[i] - passed * amounts[i]), bursts[i] * periods[i])
    granted = math.min(granted, free(i))
  else
    owed[i] = 0
  end
end

local wait, slowest, longest, left = 0, 0, 0, {}
for i = 1, 3 do
  local remaining, full = 0, 0
  if amounts[i] > 0 then
    owed[i] = owed[i] + granted * periods[i]
    remaining = free(i)
    full = math.min(math.ceil(owed[i] / amounts[i]), most)
    local more = math.ceil((owed[i] - (bursts[i] - 1) * periods[i]) / amounts[i])
    if more > 0 and more >= wait then
      wait, slowest = math.min(more, most), i
    end
  end
  longest = math.max(longest, full)
  left[2 * i - 1], left[2 * i] = remaining, full
end

if longest > 0 then
  local text = string.format('%.0f %.0f %.0f %.0f', now, owed[1], owed[2], owed[3])
  redis.call('SET', KEYS[1], text, 'PX', string.format('%.0f', math.ceil(longest / 1000)))
end
return {granted, wait, slowest, left[1], left[2], left[3], left[4], left[5], left[6]}
