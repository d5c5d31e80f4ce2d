# The doctor and status on rows that come by NATS: the origin's one slot, and who keeps it.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(transport => 'nats');

sub program
{
	my ($command, $side) = @_;
	my $out = `$ENV{TIDE_TOP}/build/pg_tide $command -d "${\$mesh->node($side)->relay_conninfo}" --json 2>&1`;
	my $status = $? >> 8;
	return (eval { decode_json($out) } // do { diag($out); {} }, $status);
}

sub wrong
{
	my ($document) = @_;
	return [ sort map { join ' ', $_->{level}, $_->{check}, $_->{subject} // '-', $_->{message} }
		  grep { $_->{level} =~ /warn|error|skip/ } @{ $document->{findings} } ];
}

sub healthy
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $side ($mesh->sides)
	{
		my ($document, $status);
		wait_until(sub { ($document, $status) = program('doctor', $side); $status == 0 }, 30, "a healthy $side");
		is($status, 0, "$name: nothing wrong in $side");
		is_deeply(wrong($document), [], '... no warning, no error');
	}
	return;
}

$mesh->sql_all('CREATE TABLE goods (id int PRIMARY KEY, body text)');
$mesh->class('shop');
$mesh->add_table('goods', 'shop');
$mesh->sql('us', q{INSERT INTO goods SELECT n, 'x' FROM generate_series(1, 100) n});
$mesh->link_all;
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_, 120), "$_->[0] has its copy of $_->[1]") for $mesh->ways;
$mesh->settle;
healthy('a good set-up');

my ($status) = program('status', 'eu');
my ($link) = @{ $status->{links} };
is($link->{transport}, 'nats', 'status: the transport');
is($link->{state}, 'streaming', '... state');
($status) = program('status', 'us');
my ($slot) = @{ $status->{slots} };
like($slot->{slot}, qr/^tide_rows_\d+$/, 'status of the origin: one slot');
is($slot->{region}, 'eu-west', '... and for whom');
my ($publisher) = grep { $_->{name} eq 'rows:publish' } @{ $status->{pipelines} };
is($publisher->{state}, 'running', '... read by the pipeline that publishes');

# The origin's relay is away: nobody reads its slot.
$mesh->relay('us')->stop;
$mesh->wait_value('us', 'SELECT bool_or(active) FROM pg_replication_slots', 'f', 30);
my ($document, $code) = program('doctor', 'eu');
is($code, 1, 'without the origin\'s relay');
ok((grep { /^warn link\.slot us-east nobody reads slot "tide_rows_\d+"/ } @{ wrong($document) }), '... the destination\'s doctor says who does not read')
  or diag(explain(wrong($document)));
$mesh->start_relay('us');
healthy('back again');

# The origin has forgotten this region.
$mesh->sql('us', q{DELETE FROM tide.rows_destination});
($document) = program('doctor', 'eu');
ok((grep { /^error link\.slot us-east it does not keep its rows for this region/ } @{ wrong($document) }), 'an origin that keeps nothing for us')
  or diag(explain(wrong($document)));
my ($lost) = grep { $_->{check} eq 'link.slot' && $_->{level} eq 'error' } @{ $document->{findings} };
like($lost->{hint}, qr/SELECT tide\.link_resync\('us-east'\)/, '... and what to do about it');
$mesh->sql('eu', q{SELECT tide.link_resync('us-east')});
ok(defined $mesh->wait_copied('eu', 'us', 120), '... which helps');
healthy('remembered');

# A link that was forgotten without its origin: that goes on keeping WAL for it.
$mesh->sql('eu', q{SELECT tide.link_remove('us-east', force => true)});
($document) = program('doctor', 'us');
ok((grep { /^warn link\.orphan eu-west WAL is kept for it, .* region "eu-west" has no such link$/ } @{ wrong($document) }), 'kept for a region that takes nothing any more')
  or diag(explain(wrong($document)));
($lost) = grep { $_->{check} eq 'link.orphan' && $_->{level} eq 'warn' } @{ $document->{findings} };
like($lost->{hint}, qr/SELECT tide\.rows_leave\('eu-west'\)/, '... and what to do about it');
$mesh->sql('us', q{CREATE ROLE admin LOGIN IN ROLE tide_admin});
is($mesh->error_of('us', q{SELECT tide.rows_leave('eu-west')}, 'admin'), '', '... which an administrator may');
ok(defined $mesh->wait_value('us', 'SELECT count(*) FROM pg_replication_slots', 0, 60), '... and no slot is left');
healthy('forgotten');

$mesh->stop;
done_testing();
