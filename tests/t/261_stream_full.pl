# Streams that are full, and have room again, while both regions publish.
#
# The limit is a number of messages, as servers before 2.10.5 throw old messages away when
# max_bytes is reached, whatever "discard" says.  A pipeline's own max_bytes is tried at the end.

use strict;
use warnings;

use JSON::PP ();
use Test::More;

use PgTide::Faults;
use PgTide::Test qw(wait_until);
use PgTide::Wan;

plan skip_all => PgTide::Wan->why_not if PgTide::Wan->why_not;

my $STREAM = $PgTide::Faults::STREAM;
my $ROOM = 300;    # messages; more than come while the limit is being set
my $json = JSON::PP->new->canonical;
my $pair = PgTide::Faults->new(load => { pause => 0.02 });

sub info { return $pair->nats($_[0])->ctl('stream-info', $STREAM); }

# Servers before 2.10 refuse every update of a stream whose sources' filters are not among its own
# subjects, so the sources are taken away and put back.
sub change_stream
{
	my ($side, %changes) = @_;
	my %config = (%{ info($side)->{config} }, %changes);
	my @subjects = (@{ $config{subjects} }, map { $_->{filter_subject} =~ s/\*/tide-placeholder/r } @{ $config{sources} });
	my @steps = map { $json->encode($_) } { %config, sources => [], subjects => \@subjects }, \%config;
	my $answer = '';
	# A relay that starts its pipeline between the two steps mends the stream, and the second one is refused.
	wait_until(
		sub {
			my $status = 0;
			for my $step (@steps)
			{
				($status, $answer) = $pair->nats($side)->ctl_status('stream-update', $STREAM, $step);
			}
			return $status == 0;
		},
		20,
		"stream $STREAM of $side to take its change") // die "it says: $answer";
	return;
}

sub says_full
{
	my ($side, $pattern) = @_;
	my $pipeline;
	my $said = wait_until(
		sub {
			$pair->tend_load;
			$pipeline = $pair->pipeline($side, 'out');
			return $pipeline->{state} eq 'retrying' && $pipeline->{last_error} =~ $pattern;
		},
		60,
		"the pipeline of $side to say that its stream is full");
	ok(defined $said, "full: the pipeline of $side waits and says why") or diag(explain($pipeline));
	return;
}

sub flows_again
{
	my ($when) = @_;
	my @stuck = grep { !defined $pair->wait_arrivals($_, 50, $PgTide::Test::HEAL_LIMIT) } qw(us eu);
	is("@stuck", '', "$when: events flow both ways");
	return;
}

sub runs
{
	my ($side) = @_;
	ok(defined wait_until(sub { $pair->pipeline($side, 'out')->{state} eq 'running' }, 60, 'running'),
		"room again: the pipeline of $side runs");
	return;
}

$pair->start_load;
$pair->start_relays;
flows_again('the start');
for my $sides (['us'], ['eu'], [qw(us eu)])
{
	change_stream($_, max_msgs => info($_)->{state}{messages} + $ROOM, discard => 'new') for @$sides;
	says_full($_, qr/maximum messages/) for @$sides;
	my @before = map { info($_)->{state}{last_seq} } @$sides;
	$pair->load($_)->wait_for(100) for qw(us eu);
	is_deeply([ map { info($_)->{state}{last_seq} } @$sides ], \@before, "full: events of @$sides wait in the outbox");
	change_stream($_, max_msgs => -1, discard => 'old') for @$sides;
	flows_again("the streams of @$sides have room again");
	is(info($_)->{state}{first_seq}, 1, "nothing was thrown away in $_ to make room") for @$sides;
	runs($_) for @$sides;
}
$pair->stop_load;
$pair->verdict('after full streams');
$pair->start_load;

# A pipeline's own limit.
$pair->us->safe_psql('postgres', q{SELECT tide.outbox_create('small')});
$pair->set_outbox('us', 'small',
	$pair->sink_config('us', stream => 'SMALL', subject_template => 'small.{op}', max_bytes => 20_000), 'small');
$pair->us->safe_psql('postgres', <<~'END');
	SELECT tide.outbox_publish('small', 'e', jsonb_build_object('filler', repeat('x', 1000)))
	FROM generate_series(1, 100)
	END
my $small;
ok(defined wait_until(
		sub {
			$small = $pair->pipeline('us', 'small');
			return $small->{state} eq 'retrying' && $small->{last_error} =~ /maximum bytes/;
		},
		60,
		'the small stream to be full'),
	"max_bytes: a full stream refuses, and the pipeline says so") or diag(explain($small));
cmp_ok($pair->nats('us')->ctl('stream-info', 'SMALL')->{state}{bytes}, '<=', 20_000, 'max_bytes is kept');
flows_again("with one pipeline's stream full");
$pair->stop_load;
$pair->verdict("with one pipeline's stream full");
is_deeply($pair->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
