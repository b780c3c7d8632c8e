// The few functions of libuv that the shell calls, declared here because node-api-headers does not bring uv.h and
// the build downloads nothing. Node exports them; libuv keeps their ABI through all of 1.x, and the size of a handle
// is asked for at run time.
#ifndef PANDO_NAPI_EVENT_LOOP_H_
#define PANDO_NAPI_EVENT_LOOP_H_

#include <cstddef>

struct uv_loop_s;
struct uv_handle_s;
struct uv_async_s;

extern "C" {
int uv_async_init(struct uv_loop_s* loop, struct uv_async_s* async, void (*callback)(struct uv_async_s*));
int uv_async_send(struct uv_async_s* async);
size_t uv_handle_size(int type);
void uv_handle_set_data(struct uv_handle_s* handle, void* data);
void* uv_handle_get_data(const struct uv_handle_s* handle);
void uv_close(struct uv_handle_s* handle, void (*callback)(struct uv_handle_s*));
void uv_ref(struct uv_handle_s* handle);
void uv_unref(struct uv_handle_s* handle);
}

namespace pando::napi {

inline constexpr int kUvAsync = 1;  // UV_ASYNC in uv_handle_type

}  // namespace pando::napi

#endif  // PANDO_NAPI_EVENT_LOOP_H_
