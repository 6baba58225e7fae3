/*
 * json.h - short ways to read what the daemon answers in JSON.
 *
 * Texts and lists are borrowed from the object. No threads.
 */
#ifndef STOMP_CLI_JSON_H
#define STOMP_CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include <json-c/json.h>

#include "base/buf.h"

#define auto_json __attribute__((cleanup(json_done))) struct json_object

void json_done(struct json_object **object);

/* Fields of an object; the default where the field is missing or null. */
const char *json_text(struct json_object *object, const char *key, const char *otherwise);
int64_t json_number(struct json_object *object, const char *key, int64_t otherwise);
bool json_flag(struct json_object *object, const char *key);
struct json_object *json_list(struct json_object *object, const char *key); /* or NULL */

/* A path as the daemon's JSON spells it: bytes that are no UTF-8 as \xNN. */
void json_put_name(struct buf *out, const char *path);

#endif
