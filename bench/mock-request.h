/*
 * Where a request ends: Content-Length, or chunked as some gateways send it on. It needs _GNU_SOURCE for memmem.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/types.h>

#define MAX_REQUEST (16u << 20)
#define MAX_HEAD (32u << 10)

static const char *find(const char *in, size_t length, const char *what) {
  return memmem(in, length, what, strlen(what));
}

/* The length of the first whole request held, 0 while it is incomplete, -1 when it cannot be read. */
static ssize_t whole_request(const char *buffer, size_t held, size_t *body_at, size_t *body_length) {
  const char *head_end = find(buffer, held, "\r\n\r\n");
  if (head_end == NULL) return held > MAX_HEAD ? -1 : 0;
  size_t head = (size_t)(head_end - buffer) + 4;
  size_t length = 0;
  int chunked = 0;
  for (const char *line = buffer; line < head_end; ) {
    const char *eol = memchr(line, '\r', (size_t)(head_end + 1 - line));
    if (eol == NULL) break;
    if (strncasecmp(line, "content-length:", 15) == 0) length = strtoul(line + 15, NULL, 10);
    if (strncasecmp(line, "transfer-encoding:", 18) == 0) chunked = 1;
    line = eol + 2;
  }
  if (chunked) {
    /* JSON has no bare CR, so the last chunk can be searched for instead of walked to. */
    const char *close_at = find(buffer + head - 2, held - head + 2, "\r\n0\r\n\r\n");
    if (close_at == NULL) return 0;
    length = (size_t)(close_at + 7 - buffer) - head;
  }
  if (length > MAX_REQUEST) return -1;
  if (held < head + length) return 0;
  *body_at = head;
  *body_length = length;
  return (ssize_t)(head + length);
}
