/* The headers alone, in the order a user may include them: nothing else is needed, twice does no harm. */
#include "safCkpt.h"
#include "saCkpt.h"
#include "saAis.h"
#include "saAis.h"
#include "saCkpt.h"
#include "safCkpt.h"

#ifdef __cplusplus
#define HOLDS_ALWAYS(condition) static_assert(condition, #condition)
#else
#define HOLDS_ALWAYS(condition) _Static_assert(condition, #condition)
#endif

/* Sizes and places, as measured on the headers programs are built with elsewhere. */
HOLDS_ALWAYS(sizeof(SaBoolT) == 4);
HOLDS_ALWAYS(sizeof(SaAisErrorT) == 4);
HOLDS_ALWAYS(sizeof(SaDispatchFlagsT) == 4);
HOLDS_ALWAYS(sizeof(SaVersionT) == 3);
HOLDS_ALWAYS(sizeof(SaNameT) == 258);
HOLDS_ALWAYS(sizeof(SaAnyT) == 16);
HOLDS_ALWAYS(sizeof(SaLimitValueT) == 8);
HOLDS_ALWAYS(sizeof(SaSelectionObjectT) == 8);
HOLDS_ALWAYS(sizeof(SaTimeT) == 8 && (SaTimeT)-1 < 0);
HOLDS_ALWAYS(sizeof(SaCkptHandleT) == 8);
HOLDS_ALWAYS(sizeof(SaCkptCheckpointCreationAttributesT) == 48);
HOLDS_ALWAYS(sizeof(SaCkptSectionIdT) == 16 && offsetof(SaCkptSectionIdT, id) == 8);
HOLDS_ALWAYS(sizeof(SaCkptSectionCreationAttributesT) == 16);
HOLDS_ALWAYS(sizeof(SaCkptIOVectorElementT) == 48);
HOLDS_ALWAYS(offsetof(SaCkptIOVectorElementT, dataBuffer) == 16 && offsetof(SaCkptIOVectorElementT, dataSize) == 24);
HOLDS_ALWAYS(offsetof(SaCkptIOVectorElementT, dataOffset) == 32 && offsetof(SaCkptIOVectorElementT, readSize) == 40);
HOLDS_ALWAYS(sizeof(SaCkptCheckpointDescriptorT) == 64);
HOLDS_ALWAYS(sizeof(SaCkptSectionDescriptorT) == 48);
HOLDS_ALWAYS(sizeof(SaCkptCallbacksT) == 16);

/* Values that are compiled into programs. */
HOLDS_ALWAYS(SA_AIS_OK == 1 && SA_AIS_ERR_TRY_AGAIN == 6 && SA_AIS_ERR_BAD_HANDLE == 9 && SA_AIS_ERR_NOT_EXIST == 12);
HOLDS_ALWAYS(SA_AIS_ERR_NO_SPACE == 15 && SA_AIS_ERR_BAD_OPERATION == 20 && SA_AIS_ERR_BAD_FLAGS == 25);
HOLDS_ALWAYS(SA_AIS_ERR_NO_SECTIONS == 27 && SA_AIS_ERR_UNAVAILABLE == 31 && SA_AIS_ERR_DEPLOYMENT == 40);
HOLDS_ALWAYS(SA_DISPATCH_ONE == 1 && SA_DISPATCH_ALL == 2 && SA_DISPATCH_BLOCKING == 3);
HOLDS_ALWAYS(SA_TIME_END == INT64_MAX && SA_TIME_UNKNOWN == INT64_MIN && SA_TIME_ONE_DAY == 24 * SA_TIME_ONE_HOUR);
HOLDS_ALWAYS(SA_CKPT_WR_ALL_REPLICAS == 1 && SA_CKPT_WR_ACTIVE_REPLICA == 2 && SA_CKPT_WR_ACTIVE_REPLICA_WEAK == 4);
HOLDS_ALWAYS(SA_CKPT_CHECKPOINT_COLLOCATED == 8 && SAF_CKPT_PERSISTENT == 16);
HOLDS_ALWAYS(SA_CKPT_CHECKPOINT_READ == 1 && SA_CKPT_CHECKPOINT_WRITE == 2 && SA_CKPT_CHECKPOINT_CREATE == 4);
HOLDS_ALWAYS(SA_CKPT_SECTIONS_FOREVER == 1 && SA_CKPT_SECTIONS_CORRUPTED == 4 && SA_CKPT_SECTIONS_ANY == 5);
HOLDS_ALWAYS(SA_CKPT_SECTION_VALID == 1 && SA_CKPT_SECTION_CORRUPTED == 2);
HOLDS_ALWAYS(SA_SVC_CKPT == 4 && SA_SVC_PLM == 15);

int main(void)
{
    /* Links, and a call with C linkage works from C++, too. */
    SaCkptSectionIdT none = SA_CKPT_DEFAULT_SECTION_ID;
    return none.idLen == 0 && saCkptFinalize(0) == SA_AIS_ERR_BAD_HANDLE ? 0 : 1;
}
