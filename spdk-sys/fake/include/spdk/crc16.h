#ifndef SPDK_CRC16_H
#define SPDK_CRC16_H

#include <stddef.h>
#include <stdint.h>

uint16_t spdk_crc16_t10dif(uint16_t init_crc, const void *buf, size_t len);

#endif
