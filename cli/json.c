#include "cli/json.h"

#include <string.h>

void json_done(struct json_object **object)
{
	json_object_put(*object);
}

const char *json_text(struct json_object *object, const char *key, const char *otherwise)
{
	struct json_object *field;

	if (!json_object_is_type(object, json_type_object) ||
		!json_object_object_get_ex(object, key, &field) || !field)
		return otherwise;
	return json_object_get_string(field);
}

int64_t json_number(struct json_object *object, const char *key, int64_t otherwise)
{
	struct json_object *field;

	if (!json_object_is_type(object, json_type_object) ||
		!json_object_object_get_ex(object, key, &field) || !field)
		return otherwise;
	return json_object_get_int64(field);
}

bool json_flag(struct json_object *object, const char *key)
{
	struct json_object *field;

	return json_object_is_type(object, json_type_object) &&
	       json_object_object_get_ex(object, key, &field) &&
	       json_object_get_boolean(field);
}

struct json_object *json_list(struct json_object *object, const char *key)
{
	struct json_object *field;

	if (!json_object_is_type(object, json_type_object) ||
		!json_object_object_get_ex(object, key, &field) ||
		!json_object_is_type(field, json_type_array))
		return NULL;
	return field;
}

void json_put_name(struct buf *out, const char *path)
{
	auto_buf quoted = {0};
	auto_json *decoded = NULL;

	buf_put_json(&quoted, path, strlen(path));
	decoded = buf_failed(&quoted) ? NULL : json_tokener_parse(quoted.data);
	if (decoded)
		buf_append(out, json_object_get_string(decoded),
			(size_t)json_object_get_string_len(decoded));
	else
		buf_puts(out, path);
}
