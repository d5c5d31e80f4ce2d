/*
 * tide_merge.c
 *		The one place that decides between the row that is here and the change that came.
 *
 * Owns: the decision.  Does not own: finding the row, writing it, recording what lost.
 */
#include "tide_merge.h"

/* An unstamped version is older than every stamped one of the same region. */
static TideStamp
stamp_or_default(bool stamped, TideStamp stamp, uint32_t origin)
{
	return stamped ? stamp : (TideStamp){.clock = 0, .origin = origin};
}

TideMergeAction
tide_merge_decide(const TideMergeInput *input)
{
	TideStamp local = stamp_or_default(input->local_stamped, input->local, input->here);
	TideStamp remote = stamp_or_default(input->remote_stamped, input->remote, input->sender);

	if (input->kind == TIDE_CHANGE_DELETE)
	{
		if (!input->local_present)
			return TIDE_MERGE_NOTHING;
		/* With a stamp it takes what is not newer; a tie is the very version it deleted. */
		if (input->remote_stamped && tide_stamp_compare(remote, local) < 0)
			return TIDE_MERGE_KEEP;
		return TIDE_MERGE_DELETE;
	}
	if (!input->local_present)
		return TIDE_MERGE_INSERT;
	return tide_stamp_compare(remote, local) > 0 ? TIDE_MERGE_UPDATE : TIDE_MERGE_KEEP;
}
