-- wrk -s load.lua URL -- METHOD BODY_BYTES PATHS_FILE
-- Every request is formatted once, before the clock starts; a large body is shared by a few of them. There is no
-- response() on purpose: with it wrk would copy every body into Lua. wrk counts statuses over 399 by itself.
local requests, at = {}, 0

function init(arguments)
  local method, size, paths = arguments[1], tonumber(arguments[2]), arguments[3]
  local body
  if size > 0 then
    math.randomseed(size)
    local unit = {}
    for i = 1, math.min(size, 65536) do unit[i] = string.char(math.random(0, 255)) end
    local text = table.concat(unit)
    body = string.rep(text, math.floor(size / #text)) .. text:sub(1, size % #text)
  end
  local headers = body and { ["Content-Type"] = "application/octet-stream" } or nil
  for path in io.lines(paths) do requests[#requests + 1] = wrk.format(method, path, headers, body) end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'LOAD {"requests":%d,"seconds":%.6f,"receivedBytes":%.0f,"p50Us":%d,"p99Us":%d,"badStatus":%d,"socketErrors":%d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
